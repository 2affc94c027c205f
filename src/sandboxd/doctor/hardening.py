"""Checks of what closes the host: who reaches Docker's socket, and the kernel's parameters."""

from sandboxd.doctor.findings import DEPLOY, Verdict, fail, ok, warn
from sandboxd.doctor.readers import Readers

SOCKET = "/run/docker.sock"
GROUP_CLASS, OTHERS = 0o070, 0o007


def docker_socket(readers: Readers) -> Verdict:
    """Whoever reaches it is root."""
    done = readers.effects.run(["stat", "-L", "-c", "%U %G %a", SOCKET])
    words = done.text.split()
    if done.code != 0 or len(words) != 3:
        return fail(done.text.strip(), "systemctl restart docker.socket docker")
    user, group, mode = words[0], words[1], int(words[2], 8)
    seen = f"{SOCKET} is {user}:{group} {mode:03o}"
    if mode & OTHERS or user != "root":
        return fail(f"{seen}: users of this host are root by it", f"{DEPLOY}; or chmod o= {SOCKET}")
    members = _members(readers, group) if mode & GROUP_CLASS and group != "root" else []
    if members:
        remedy = f"gpasswd --delete USER {group}; or docker_group = False, and {DEPLOY}"
        return warn(f"{seen}, and so {', '.join(members)} may become root", remedy)
    return ok(f"{seen}: for root alone")


def kernel_parameters(readers: Readers) -> Verdict:
    """Those of the setting `sysctls`, as they are in effect."""
    file = f"/etc/sysctl.d/60-{readers.config.project}-sandbox.conf"
    try:
        lines = [line for line in readers.effects.text(file).splitlines() if "=" in line and not line.startswith("#")]
    except OSError as error:
        return fail(f"{file}: {error.strerror}", DEPLOY)
    wanted = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    found = {key: _parameter(readers, key) for key in wanted}
    absent = [key for key, value in found.items() if value is None]
    other = [f"{key} = {value}, not {wanted[key]}" for key, value in found.items() if value not in (None, wanted[key])]
    if other:
        return warn("; ".join(other), f"sysctl --ignore --load {file}; who else sets them: sysctl --system")
    seen = f"{len(wanted) - len(absent)} of {len(wanted)} are as wanted"
    return ok(f"{seen}; this kernel does not have {', '.join(absent)}" if absent else seen)


def _parameter(readers: Readers, key: str) -> str | None:
    """None for one that this kernel does not have."""
    try:
        return " ".join(readers.effects.text(f"/proc/sys/{key.replace('.', '/')}").split())
    except OSError:
        return None


def _members(readers: Readers, group: str) -> list[str]:
    """Users of a group, in it by name or by their own primary group."""
    entry = readers.effects.run(["getent", "group", group]).text.strip().split(":")
    if len(entry) < 4:
        return []
    users = (line.split(":") for line in readers.effects.run(["getent", "passwd"]).text.splitlines())
    primary = [user[0] for user in users if len(user) > 3 and user[3] == entry[2]]
    return sorted({name for name in [*entry[3].split(","), *primary] if name})
