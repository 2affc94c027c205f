"""The agent skills, in `~/.claude/skills` of the users that the settings name."""

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.operations import files

from deploys import ROOT, facts
from deploys.preflight import settings

SKILLS = sorted(path.parent for path in (ROOT / "files/skills").glob("*/SKILL.md"))


@deploy("Skills")
def install() -> None:
    """One folder per skill; a user's other skills are left alone. The preflight has looked whether the users exist."""
    users = settings().skills_users
    accounts = host.get_fact(facts.Accounts, logins=users)
    for user in users:
        account = accounts[user]
        folder = f"{account.home}/.claude/skills"
        # One by one: `mkdir -p` would leave ~/.claude to root, and the user's own programs could not write there.
        for path in (f"{account.home}/.claude", folder, *(f"{folder}/{skill.name}" for skill in SKILLS)):
            files.directory(name=f"Make {path}", path=path, user=user, group=account.group)
        for skill in SKILLS:
            for file in sorted(path for path in skill.rglob("*") if path.is_file()):
                dest = f"{folder}/{skill.name}/{file.relative_to(skill)}"
                files.put(name=f"Write {dest}", src=str(file), dest=dest, user=user, group=account.group, mode="644")
