"""A plan as text that a person reads: what a host becomes, step by step."""

from __future__ import annotations

import re

from tests.plan.scenario import Plan, Step

# Digests of contexts and code change with every edit of those files; that they do is tested in test_images.py.
DIGEST = re.compile(r"\b[0-9a-f]{12}\b")
TEMPORARY = re.compile(r"/tmp/pyinfra-[0-9a-f]{40}")
APT_OPTIONS = re.compile(r"DEBIAN_FRONTEND=noninteractive apt-get -y (-o \S+ )*")


def render(title: str, plan: Plan, commands: bool = False) -> str:
    """The steps by deploy, each with its condition and the owner and mode of what it writes; on demand with commands.

    A step that finds all as it should be on a bare host is marked with `=`.
    """
    lines = [f"# {title}"]
    deploy = ""
    for step in plan.steps:
        part, _, name = step.name.rpartition(" | ")
        if part != deploy:
            lines += ["", part]
            deploy = part
        lines.append(f"  {'+' if step.commands else '='} {name}{_placed(step)}")
        if step.condition:
            lines += [f"      if {condition}" for condition in _conditions(step.condition)]
        if commands:
            lines += [f"      $ {line}" for command in _own(step) for line in command.splitlines()]
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    return TEMPORARY.sub("<temporary>", DIGEST.sub("<digest>", text))


def _conditions(text: str) -> list[str]:
    """One line for each condition; a shell command that is a list of tests is a line for each of them."""
    tests = text.split("; ")
    return tests if all(test.startswith("[ ") for test in tests) else text.splitlines()


def _placed(step: Step) -> str:
    """Owner and mode of the path that a step places, such as ` (root:root 644)`."""
    found = [_last(r"chown (?:-h )?(\S+) \S+", step.commands), _last(r"chmod (\S+) \S+", step.commands)]
    text = " ".join(filter(None, found))
    return f" ({text})" if text else ""


def _last(pattern: str, commands: list[str]) -> str:
    """What the last of the commands that match as a whole says: parents come before the path itself."""
    matches = [match[1] for command in commands if (match := re.fullmatch(pattern, command))]
    return matches[-1] if matches else ""


def _own(step: Step) -> list[str]:
    """The commands without those of placing a file, which the step's name and its mode say already."""
    placing = re.compile(r"(mkdir -p|chown|chmod|touch|upload) .*")
    return [APT_OPTIONS.sub("apt-get ", command) for command in step.commands if not placing.fullmatch(command)]
