"""Other names of verbs, for people who come from another command line. The one table of them; data, no effects.

`sandbox` is no noun of ours: all that follows it is an alias. One whose verb does not exist is not offered.
"""

from sandboxd.cli.verbs import NAMES, Noun, declared, find

ALIASES = {
    "create": "init",
    "connect": "shell",
    "ls": "list",
    "rm": "kill",
    "sandbox create": "init",
    "sandbox connect": "shell",
    "sandbox exec": "exec",
    "sandbox get-host": "get-host",
    "sandbox info": "info",
    "sandbox kill": "kill",
    "sandbox list": "list",
    "sandbox pause": "pause",
    "sandbox resume": "resume",
    "sandbox status": "info",
    "files upload": "upload",
    "files upload-dir": "upload",
    "files download": "download",
    "files download-dir": "download",
}
NOUNS = {"sandbox": "Other names of the verbs that are about one sandbox."}


def offered() -> dict[str, str]:
    """The table without the aliases of verbs that do not exist."""
    return {alias: name for alias, name in ALIASES.items() if exists(name)}


def exists(name: str) -> bool:
    """Whether a verb has that whole name. Nothing is imported for a name of one word."""
    word, _, action = name.partition(" ")
    if word not in NAMES or not action:
        return word in NAMES
    found = declared(word)
    return isinstance(found, Noun) and action in found.actions


def meaning(word: str) -> str:
    """The verb that a single word is an alias of; the word itself when it is none."""
    name = ALIASES.get(word, word)
    return name if exists(name) else word


def actions(word: str) -> dict[str, str]:
    """What may follow that word, and the whole name of the verb that it means; {} for a verb of one word."""
    found = declared(word) if word in NAMES else None
    own = {action: f"{word} {action}" for action in found.actions} if isinstance(found, Noun) else {}
    others = {alias: name for alias, name in offered().items() if alias.startswith(f"{word} ")}
    return own | {alias.partition(" ")[2]: name for alias, name in others.items()}


def summary(word: str, action: str) -> str:
    """One line about an action, which begins with the verb when it is an alias of one."""
    name = actions(word)[action]
    line = find(name).summary.partition("\n")[0]
    return line if name == f"{word} {action}" else f"{name}: {line}"


def legend() -> str:
    """All aliases in a few lines, by their first word; `= verb` where the last word is not the verb's own."""
    lines: dict[str, list[str]] = {}
    for alias, name in offered().items():
        word, _, action = alias.rpartition(" ")
        lines.setdefault(word, []).append(action if action == name else f"{action} = {name}")
    return "\n".join(f"  {f'{word} ' if word else ''}{', '.join(items)}" for word, items in lines.items())
