"""Every command of the skills is run on the host, in order, and its output compared with what the skill shows."""

import re
import shlex
from pathlib import Path

import pytest

from deploys import ROOT
from tests.host.machine import Machine

SKILLS = sorted(path.parent for path in (ROOT / "files/skills").glob("*/SKILL.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=== block {number} ==="


def steps(text: str) -> list[tuple[str, str | None]]:
    """Each ```sh block with the ```text block that directly follows it, None when none does."""
    found: list[tuple[str, str | None]] = []
    end = -1
    for match in FENCE.finditer(text):
        language, content = match.groups()
        if language == "sh":
            found.append((content, None))
            end = match.end()
        elif language == "text" and found and not text[end : match.start()].strip():
            found[-1] = (found[-1][0], content)
    return found


def same_ids(text: str, domain: str) -> str:
    """Ids and the domain vary from host to host."""
    return re.sub(r"(qa|\d+)-[0-9a-f]{12}\.\S+?(?=[/\s]|$)", r"\1-ID.DOMAIN", text.replace(domain, "example.com"))


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_the_skill_is_installed(machine: Machine, skill: Path) -> None:
    for user in machine.settings.skills_users:
        home = machine.out(f"getent passwd {user} | cut -d: -f6")
        file = machine.host.file(f"{home}/.claude/skills/{skill.name}/SKILL.md")
        assert file.content_string == (skill / "SKILL.md").read_text() and file.user == user


@pytest.mark.disruptive
@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_every_command_of_the_skill_works(machine: Machine, skill: Path) -> None:
    """In one shell, which ends at the first failure. curl is told where the lab is, as DNS would do it."""
    blocks = steps((skill / "SKILL.md").read_text())
    curl = 'connect-to = "::127.0.0.1:443"\n'
    if machine.settings.tls_mode == "internal":
        curl += f'cacert = "{machine.settings.etc}/ca/ca.pem"\n'
    script = 'set -euo pipefail\ncd "$(mktemp -d)"\nexport CURL_HOME="$PWD"\n'
    script += f"printf %s {shlex.quote(curl)} >.curlrc\n"
    for number, (commands, _) in enumerate(blocks):
        script += f"echo {shlex.quote(MARK.format(number=number))}\n{commands}\n"
    machine.wait_for_full_pool()
    before = {row["sandboxID"] for row in machine.listed()}
    # From a file, not from standard input: `exec` would read the rest of the script.
    done = machine.run(
        'file=$(mktemp); cat >"$file"; bash "$file" </dev/null; code=$?; rm "$file"; exit $code',
        check=False,
        stdin=script.encode(),
    )
    for row in machine.listed():
        if row["sandboxID"] not in before:
            machine.run(f"docker-sandbox kill {row['sandboxID']}")
            assert done.returncode != 0, f"the skill leaves sandbox {row['sandboxID']} behind"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    shown = re.split(r"^=== block \d+ ===\n", done.stdout, flags=re.MULTILINE)[1:]
    assert len(shown) == len(blocks)
    for (commands, expected), got in zip(blocks, shown, strict=True):
        if expected is not None:
            assert same_ids(got, machine.settings.domain) == same_ids(expected, machine.settings.domain), commands
