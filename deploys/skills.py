"""The agent skills, in `~/.claude/skills` of the users that the settings name."""

from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import DeployError
from pyinfra.operations import files

from deploys import ROOT, facts
from deploys.preflight import settings

SKILLS = sorted(path.parent for path in (ROOT / "files/skills").glob("*/SKILL.md"))


@deploy("Skills")
def install() -> None:
    """One folder per skill; a user's other skills are left alone."""
    for user in settings().skills_users:
        home = host.get_fact(facts.Output, command_line=f"getent passwd {user} | cut -d: -f6") or _absent(user)
        for skill in SKILLS:
            _install(user, f"{home}/.claude/skills/{skill.name}", skill)


def _install(user: str, folder: str, skill: Path) -> None:
    files.directory(name=f"Make {folder}", path=folder, user=user, group=user)
    for file in sorted(path for path in skill.rglob("*") if path.is_file()):
        dest = f"{folder}/{file.relative_to(skill)}"
        files.put(name=f"Write {dest}", src=str(file), dest=dest, user=user, group=user, mode="644")


def _absent(user: str) -> str:
    if user == "root":
        return "/root"
    raise DeployError(
        f"skills_users = {user!r}: there is no such user on {host.name}; create it, or take it out of the setting"
    )
