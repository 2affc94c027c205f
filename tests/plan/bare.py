def answer(f, a, s):
    print("ASK", f, a)
    if f == "deploys.facts.Summary":
        return ["uid 0", "sudo yes", "os debian", "suite trixie", "machine x86_64", "systemd yes", "free_mb 90000", "memory_mb 4000"]
    return []
class Unregistered(Exception): pass
