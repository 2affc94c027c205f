"""What the command line gets from a sandbox whose agent lies, and whose files are traps. See liar.

The command line runs as root on the host, in a directory of its own on a small disk, with a gigabyte of memory.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.host.attack.liar import LIES, STREAMS, WORDS
from tests.host.attack.seats import HERE
from tests.host.machine import Machine, Sandbox

HOME = "/run/test-liar"
AGENT = "/opt/envd/app/envd/__main__.py"
# Everything of the host that the lies aim at, or that a copy could change.
AROUND = f"find {HOME} /tmp/attack-escaped -printf '%p %y %m %s\\n' 2>/dev/null | sort; stat -c '%i %a %Y' /etc/shadow"
REFUSED = {
    "up": "leads out of the target",
    "far-up": "leads out of the target",
    "absolute": "leads out of the target",
    "through-a-link": "d",
    "hard-link": "leads out of the target",
    "hard-link-up": "leads out of the target",
    "other-name": "refused",
    "sparse": "holes",
    "old-sparse": "holes",
    "long-name": "a head of",
    "long-header": "a head of",
    "endless-tar": "left free",
    "endless-file": "left free",
    "endless-links": "links",
    "cut": "damaged|broke",
    "no-tar": "damaged",
}


@pytest.fixture(scope="module")
def liar(machine: Machine) -> Iterator[Sandbox]:
    """Of the default template: what runs a liar makes its lies no better."""
    with machine.sandbox() as sandbox:
        sandbox.run(f"cat >{AGENT}", "--user root", stdin=(HERE / "liar.py").read_bytes())
        machine.run(f"docker-sandbox stop {sandbox.id} && docker-sandbox start {sandbox.id}")
        yield sandbox


@pytest.fixture
def around(machine: Machine) -> Iterator[str]:
    """A small disk with a file on it that must stay as it is. How all of it looks."""
    clean = f"umount {HOME} 2>/dev/null; rm -rf {HOME} /tmp/attack-escaped"
    machine.run(clean, check=False)
    machine.run(f"mkdir {HOME} && mount -t tmpfs -o size=300m,mode=700 liar {HOME} && echo alive >{HOME}/canary")
    machine.run(f"mkdir {HOME}/copies")
    yield machine.out(AROUND)
    machine.run(clean, check=False)


def ask(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, bounded in memory and time; it must not say that it was wrong about something itself."""
    line = shlex.join(["docker-sandbox", *words])
    done = machine.run(f"cd {HOME}/copies && timeout 200 prlimit --as=1073741824 {line}", check=False)
    assert done.returncode not in (124, 137), "it went on without an end"
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("lie", REFUSED)
def test_what_would_harm_is_refused_and_leaves_nothing(machine: Machine, liar: Sandbox, around: str, lie: str) -> None:
    done = ask(machine, "download", liar.id, f"/x/{lie}", "there")
    assert done.returncode == 1 and re.search(REFUSED[lie], done.stderr), done.stderr
    assert machine.out(AROUND) == around


@pytest.mark.parametrize("lie", ["link-out", "link-to-parent", "devices"])
def test_what_leads_out_is_left_out(machine: Machine, liar: Sandbox, around: str, lie: str) -> None:
    done = ask(machine, "download", liar.id, f"/x/{lie}", "there")
    assert done.returncode == 0 and "left out" in done.stderr
    assert machine.out(f"find {HOME}/copies/there -mindepth 1") == ""
    machine.run(f"rmdir {HOME}/copies/there")
    assert machine.out(AROUND) == around


@pytest.mark.parametrize("lie", ["set-uid", "set-uid-file"])
def test_nothing_becomes_set_uid(machine: Machine, liar: Sandbox, around: str, lie: str) -> None:
    ask(machine, "download", liar.id, f"/x/{lie}", "there")
    assert machine.out(f"find {HOME} -perm /7000") == ""
    assert machine.out(f"find {HOME}/copies -type f | wc -l") == "1"


def test_every_lie_is_told(machine: Machine) -> None:
    told = {*REFUSED, "link-out", "link-to-parent", "devices", "set-uid", "set-uid-file"}
    assert told == set(LIES)


@pytest.mark.parametrize("lie", [*WORDS])
@pytest.mark.parametrize("words", ["files ls {} /x/{}", "files info {} /x/{}", "upload {} /etc/hostname /x/{}"])
def test_words_that_are_none_are_an_error(machine: Machine, liar: Sandbox, around: str, words: str, lie: str) -> None:
    done = ask(machine, *words.format(liar.id, lie).split())
    assert done.returncode == 1 and "error" in done.stderr
    assert machine.out(AROUND) == around


@pytest.mark.parametrize("lie", [*STREAMS])
def test_a_command_that_the_agent_lies_about_is_an_error(
    machine: Machine, liar: Sandbox, around: str, lie: str
) -> None:
    done = ask(machine, "exec", liar.id, lie)
    assert done.returncode not in (0, 124) and "error" in done.stderr


@pytest.mark.usefixtures("around")
def test_links_in_a_sandbox_are_not_followed_by_a_download(machine: Machine, template: str) -> None:
    """Of an honest agent, too: what a link of the sandbox names is there, or nowhere, never on the host."""
    with machine.sandbox(f"--template {template}") as sandbox:
        sandbox.run(f"mkdir d && ln -s {HOME}/canary d/out && ln -s ../.. d/up && ln -s /etc d/etc && echo own >d/own")
        done = ask(machine, "download", sandbox.id, "/code/d", "there")
        assert done.returncode == 0 and done.stderr.count("left out") == 3
        assert machine.out(f"ls {HOME}/copies/there") == "own"
        assert ask(machine, "download", sandbox.id, "/code/d/out", "there2").returncode == 1
        machine.run(f"ln -s {HOME}/canary {HOME}/copies/there/own -f")
        assert ask(machine, "download", sandbox.id, "/code/d", "./there/..").returncode == 0
        assert machine.out(f"cat {HOME}/canary") == "alive"


@pytest.mark.usefixtures("around")
def test_links_on_the_host_are_not_followed_by_an_upload(machine: Machine, template: str) -> None:
    """A directory that a sandbox has prepared and that comes back does not bring the host's files into it."""
    with machine.sandbox(f"--template {template}") as sandbox:
        machine.run(
            f"mkdir {HOME}/copies/d && ln -s {HOME}/canary {HOME}/copies/d/out && ln -s /etc {HOME}/copies/d/etc"
        )
        ask(machine, "upload", sandbox.id, "d", "/code/back")
        assert sandbox.out("readlink back/out back/etc").split() == [f"{HOME}/canary", "/etc"]
        assert "alive" not in sandbox.out("cat back/out 2>&1 || true")
        sandbox.run("ln -s /etc/shadow trap && ln -s /proc/1 dir")
        for target in ("/code/trap", "/code/dir/comm", "/code/../etc/passwd", "/code/../../proc/1/comm"):
            assert ask(machine, "upload", sandbox.id, f"{HOME}/canary", target).returncode == 1, "the rights of `user`"
