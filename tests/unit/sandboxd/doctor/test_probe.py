"""The probe: each step, its failures, and that nothing is left of it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace

import pytest

from sandboxd.config import Template
from sandboxd.doctor import probe as module
from sandboxd.doctor.effects import Answer
from sandboxd.doctor.findings import Finding, examine
from sandboxd.doctor.probe import NAME, Probe, differences
from sandboxd.doctor.readers import Readers
from sandboxd.engine import Found
from sandboxd.records import Sandbox
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.conftest import FakeHost
from tests.unit.sandboxd.fake_engine import down, refusal

STEPS = ["probe-made", "probe-command", "probe-limits", "probe-url", "probe-removed"]


@dataclass
class FakeAgent:
    """Runs commands: the server that the probe starts answers through the edge from then on."""

    host: FakeHost
    world: World
    succeeds: bool = True
    serves: bool = True
    fails: str = ""  # commands with this word in them
    commands: list[tuple[str, bool]] = field(default_factory=list)

    def __call__(self, row: Sandbox, command: str, background: bool) -> bool:
        self.commands.append((command, background))
        if background and self.serves:
            word = command.split()[command.split().index("echo") + 1]
            self.host.answers[True] = Answer(200, f"{word}\n".encode())
        return self.succeeds and not (self.fails and self.fails in command)


@pytest.fixture
def inside(host: FakeHost, world: World, monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    """The agent of a sandbox that has the kernel's files as soon as it starts."""
    start = world.engine.start

    def started(container: str) -> None:
        start(container)
        kernel.v2(host.root, container + "0" * 52, world.engine.containers[container].pid)

    monkeypatch.setattr(world.engine, "start", started)
    monkeypatch.setattr(module, "URL_S", 0.05)
    monkeypatch.setattr(module, "POLL_S", 0.005)
    return FakeAgent(host, world)


Examine = Callable[[], dict[str, Finding]]


@pytest.fixture
def examined(readers: Readers, inside: FakeAgent) -> Examine:
    def run() -> dict[str, Finding]:
        with closing(Probe(readers, inside)) as probe:
            return {one.name: one for one in examine(probe.checks(()), readers, lambda: False, "look")}

    return run


def nothing_left(world: World) -> bool:
    """Members of the pool stay."""
    members = {row.slot for row in world.ledger.rows("warm")}
    objects = {one.slot for one in world.engine.inventory("acme")}
    return objects == members == set(world.leftovers()) and not world.ledger.rows("running", "creating", "removing")


def test_a_healthy_host(examined: Examine, inside: FakeAgent, world: World, host: FakeHost) -> None:
    found = examined()
    assert {name: one.level for name, one in found.items()} == dict.fromkeys(STEPS, "ok")
    assert found["probe-limits"].seen == "2048 MB, 2 CPUs, 1024 processes, uid 100000 for its root"
    assert inside.commands[0] == ("true", False) and "--bind 127.0.0.1" in inside.commands[1][0]
    assert nothing_left(world)
    (row,) = world.ledger.rows("gone")
    assert (row.name, row.origin, row.reason) == (NAME, "cold", "probe of doctor") and row.ends_at is not None
    assert host.hosts[-1] == f"qa-{row.id}.example.com"


def test_it_is_made_although_the_pool_has_members(examined: Examine, world: World) -> None:
    before = [row.id for row in world.ledger.rows("warm")]
    examined()
    assert [row.id for row in world.ledger.rows("warm")] == before


def test_it_cannot_be_made(examined: Examine, world: World) -> None:
    world.engine.fail["create_network"] = refusal()
    found = examined()
    assert (found["probe-made"].level, found["probe-made"].seen) == ("fail", "Docker refuses.")
    assert {found[name].level for name in STEPS[1:]} == {"blocked"} and nothing_left(world)


def test_a_command_that_does_not_run(examined: Examine, inside: FakeAgent, world: World) -> None:
    inside.succeeds = False
    found = examined()
    assert [found[name].level for name in STEPS] == ["ok", "fail", "ok", "blocked", "ok"] and nothing_left(world)


@pytest.mark.parametrize(
    ("file", "text", "seen"),
    [
        ("memory.max", "max", "memory is unlimited, not 2147483648 bytes"),
        ("cpu.max", "max 100000", "processors are unlimited, not 2"),
        ("pids.max", "max", "processes are unlimited, not 1024"),
    ],
)
def test_limits_that_the_kernel_does_not_hold(
    readers: Readers, inside: FakeAgent, host: FakeHost, world: World, file: str, text: str, seen: str
) -> None:
    with closing(Probe(readers, inside)) as probe:
        probe.made(readers)
        (row,) = world.ledger.rows("running")
        (host.root / f"sys/fs/cgroup/system.slice/docker-{row.id}{'0' * 52}.scope/{file}").write_text(text)
        verdict = probe.limits(readers)
    assert (verdict.level, verdict.seen) == ("fail", seen)


def test_a_root_that_is_root_on_the_host(readers: Readers, inside: FakeAgent, host: FakeHost, world: World) -> None:
    with closing(Probe(readers, inside)) as probe:
        probe.made(readers)
        (row,) = world.ledger.rows("running")
        (host.root / f"proc/{world.engine.containers[row.id].pid}/status").write_text("Uid:\t0\t0\t0\t0\n")
        assert probe.limits(readers).seen == "its root is root on this host"
        wanted = replace(readers.config.wanted, userns_remap=False)
        readers.sandboxes.config = replace(readers.config, wanted=wanted)
        assert probe.limits(readers).level == "ok"


def test_limits_that_cannot_be_read(readers: Readers, inside: FakeAgent, host: FakeHost, world: World) -> None:
    with closing(Probe(readers, inside)) as probe:
        probe.made(readers)
        (row,) = world.ledger.rows("running")
        (host.root / f"proc/{world.engine.containers[row.id].pid}/cgroup").unlink()
        verdict = probe.limits(readers)
    assert verdict.level == "fail" and "cannot be read" in verdict.seen and verdict.remedy


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (Answer(502, b'{"message":"The sandbox is running but port is not open"}'), "status 502: "),
        (Answer(200, b"somebody else's page"), "status 200: somebody else's page"),
    ],
)
def test_a_url_that_does_not_answer(
    examined: Examine, inside: FakeAgent, host: FakeHost, world: World, answer: Answer | OSError, seen: str
) -> None:
    inside.serves = False
    host.answers[True] = answer
    found = examined()
    assert found["probe-url"].level == "fail" and seen in found["probe-url"].seen
    assert found["probe-removed"].level == "ok" and nothing_left(world)


def test_what_is_left_behind_is_named(examined: Examine, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = world.engine.inventory

    def forgetful(project: str) -> list[Found]:
        closed = [Found("volume", f"acme-code-{row.slot}", row.slot, 0.0) for row in world.ledger.rows("gone")]
        return inventory(project) + closed

    monkeypatch.setattr(world.engine, "inventory", forgetful)
    (removed,) = [one for name, one in examined().items() if name == "probe-removed"]
    assert removed.level == "fail" and "left behind: volume acme-code-" in removed.seen
    assert "docker-sandbox kill" in removed.remedy


def test_a_removal_that_fails(examined: Examine, world: World) -> None:
    world.engine.fail["remove_container"] = down()
    found = examined()
    assert found["probe-removed"].level == "fail" and "Docker does not answer" in found["probe-removed"].seen
    (row,) = world.ledger.rows("removing")
    assert row.reason == "probe of doctor", "the reconciler goes on with it"


def test_it_is_removed_when_nobody_listens_any_more(readers: Readers, inside: FakeAgent, world: World) -> None:
    stopped: list[bool] = []
    with closing(Probe(readers, inside)) as probe:
        for finding in examine(probe.checks(()), readers, lambda: bool(stopped), "look"):
            assert finding.name == "probe-made" and world.ledger.rows("running")
            stopped.append(True)
    assert nothing_left(world)


def test_differences_in_words() -> None:
    template = Template("more", "more:1", 512, 0.5, 256, 1024, 1024)
    assert differences(template, 512 * 1024**2, 0.5, 256) == []
    assert differences(template, 1, 2.0, 5) == [
        "memory is 1, not 536870912 bytes",
        "processors are 2, not 0.5",
        "processes are 5, not 256",
    ]


@pytest.mark.parametrize(("inside_gvisor", "level"), [(True, "ok"), (False, "fail")])
def test_a_template_that_asks_for_gvisor_is_tried(
    examined: Examine, inside: FakeAgent, world: World, inside_gvisor: bool, level: str
) -> None:
    """By the kernel's own log: any other says nothing of gVisor."""
    world.config.templates["closed"] = replace(world.config.templates["base"], name="closed", runtime="runsc")
    inside.fails = "" if inside_gvisor else "gVisor"
    found = examined()
    assert (found["probe-gvisor"].level, "template closed" in found["probe-gvisor"].seen) == (level, True)
    assert world.engine.payloads[-1]["HostConfig"]["Runtime"] == "runsc" and nothing_left(world)
