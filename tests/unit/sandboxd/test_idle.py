"""Pauses for want of use. What a sandbox sends, and what runs in it, is what a directory in place of /proc says."""

from dataclasses import replace

import pytest

from sandboxd.errors import EngineDown, EngineError
from sandboxd.idle import EVERY_S, REASON, Idle
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, make_world, until
from tests.unit.sandboxd.fake_engine import down
from tests.unit.sandboxd.test_observed import records
from tests.unit.sandboxd.test_reconcile import create, row_of

IDLE_S = 100.0


class Used:
    """A sandbox that is to be paused after IDLE_S."""

    def __init__(self, world: World, claim: Claim | None = None) -> None:
        self.world = world
        self.idle = Idle(world.sandboxes, world.transitions)
        self.sandbox = create(world, claim or Claim(idle_pause_s=IDLE_S, auto_resume=True))
        self.pid = world.engine.containers[self.sandbox.id].pid
        self.sends(10)
        self.runs(self.pid, 1)
        self.agent = self.pid + 10_000
        self.runs(self.agent, self.pid)

    def sends(self, packets: int) -> None:
        """So many since its start."""
        file = self.world.mounts.root / f"proc/{self.pid}/net/dev"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"head\nhead\n  eth0: 1 2 3 4 5 6 7 8 9 {packets} 11 12 13 14 15 16\n")
        (file.parent / "netstat").write_text("TcpExt: TCPKeepAlive\nTcpExt: 0\n")

    def has_unread(self, waiting: int) -> None:
        """So many bytes, on a connection that is open."""
        file = self.world.mounts.root / f"proc/{self.pid}/net/tcp"
        file.write_text(f"head\n 0: 0100007F:1F40 0100007F:A0B2 01 00000000:{waiting:08X} 00:00000000 00000000 0 0 1\n")

    def runs(self, pid: int, parent: int) -> None:
        file = self.world.mounts.root / f"proc/{pid}/stat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{pid} (x) S {parent} {' '.join(['0'] * 17)} {pid} 0\n")

    def ends(self, pid: int) -> None:
        (self.world.mounts.root / f"proc/{pid}/stat").unlink()

    def after(self, seconds: float) -> float:
        """Looks so much later."""
        self.world.now[0] += seconds
        return self.idle.look()

    @property
    def state(self) -> str:
        return row_of(self.world, self.sandbox).state

    @property
    def row(self) -> Sandbox:
        return row_of(self.world, self.sandbox)


@pytest.fixture
def used(world: World) -> Used:
    made = Used(world)
    assert made.after(0) == EVERY_S and made.state == "running"
    return made


def test_one_that_nobody_uses_is_paused_and_says_why(used: Used) -> None:
    assert used.after(IDLE_S - 5) == 5 and used.state == "running"
    used.after(5)
    assert used.state == "paused" and used.row.reason == REASON
    assert used.world.engine.containers[used.sandbox.id].paused
    assert used.world.haproxy.map == [(used.sandbox.id, "asleep")]
    assert used.after(1000) == EVERY_S and used.state == "paused"
    told = records(used.world)[-1]
    assert (told["actor"]["kind"], told["action"], told["detail"]) == ("idle", "pause", REASON)


def test_traffic_begins_the_time_anew(used: Used) -> None:
    used.after(90)
    used.sends(11)
    used.after(5)
    used.after(IDLE_S - 1)
    assert used.state == "running"
    used.after(1)
    assert used.state == "paused"


def test_a_command_keeps_it_awake_as_long_as_it_runs(used: Used) -> None:
    used.runs(used.agent + 1, used.agent)
    for _ in range(3):
        used.after(IDLE_S)
        assert used.state == "running"
    used.ends(used.agent + 1)
    used.after(IDLE_S)
    assert used.state == "paused"


def test_the_ledger_knows_when_it_was_used_last(used: Used) -> None:
    """A daemon that was down looks as if it had been there."""
    used.after(60)
    world = used.world
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    again.now[0] = world.now[0] + 40
    Idle(again.sandboxes, again.transitions).look()
    assert row_of(again, used.sandbox).state == "paused"
    again.ledger.close()


def test_only_those_who_say_so_are_looked_at(world: World) -> None:
    made = Used(world, Claim())
    made.after(0)
    made.after(10 * IDLE_S)
    assert made.state == "running"


def test_a_claim_and_a_resume_begin_the_time_anew(used: Used) -> None:
    assert used.row.claimed_at == used.row.active_at
    used.after(IDLE_S)
    used.world.now[0] += 1000
    used.world.transitions.resume(used.sandbox)
    assert used.row.active_at == used.world.now[0] and used.row.reason == ""
    used.after(IDLE_S - 1)
    assert used.state == "running"
    used.after(1)
    assert used.state == "paused"


def test_a_container_that_was_started_anew_counts_from_there(used: Used) -> None:
    """Its counters begin anew, and may be what they were."""
    containers = used.world.engine.containers
    containers[used.sandbox.id] = replace(containers[used.sandbox.id], booted="later")
    used.after(IDLE_S)
    assert used.state == "running"


def test_a_clock_that_was_set_back_does_not_keep_it_awake(used: Used) -> None:
    used.after(-1_000_000)
    used.after(IDLE_S)
    assert used.state == "paused"


def test_what_came_in_the_last_moment_is_answered(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    pause = used.world.engine.pause

    def late(container: str) -> None:
        used.sends(11)
        pause(container)

    monkeypatch.setattr(used.world.engine, "pause", late)
    used.after(IDLE_S)
    assert used.state == "running" and not used.world.engine.containers[used.sandbox.id].paused
    assert used.world.haproxy.map == [(used.sandbox.id, used.sandbox.address)]


def test_who_is_claimed_meanwhile_is_left_alone(used: Used) -> None:
    with used.world.sandboxes.locks.hold(used.sandbox.slot):
        used.after(IDLE_S)
    assert used.state == "running"


@pytest.mark.parametrize("wakes", [True, False])
def test_something_on_an_open_connection_wakes_those_that_visitors_wake(world: World, wakes: bool) -> None:
    made = Used(world, Claim(idle_pause_s=IDLE_S, auto_resume=wakes))
    made.after(0)
    made.after(IDLE_S)
    assert made.state == "paused"
    made.has_unread(1)
    made.after(1)
    assert made.state == "paused", "that was there before: nothing has come"
    made.sends(11)
    made.after(1)
    assert made.state == ("running" if wakes else "paused")


def test_what_its_kernel_alone_has_answered_wakes_nobody(used: Used) -> None:
    """As when the gateway closes a connection that it kept, and the end of it is acknowledged."""
    used.after(IDLE_S)
    used.has_unread(0)
    used.sends(11)
    used.after(1)
    assert used.state == "paused" and used.row.reason == REASON


def test_one_that_somebody_paused_sleeps_on(used: Used) -> None:
    used.world.transitions.pause(used.sandbox)
    used.sends(11)
    used.after(1)
    assert used.state == "paused"


@pytest.mark.parametrize("method", ["container", "pause"])
def test_a_refusal_of_docker_harms_nobody(used: Used, method: str) -> None:
    used.world.engine.fail[method] = EngineError("Docker refuses.")
    used.after(IDLE_S)
    used.after(1)
    used.world.reconciler.tick()
    assert used.state == "paused" and used.world.engine.containers[used.sandbox.id].paused


def test_without_docker_nothing_is_decided(used: Used) -> None:
    used.world.engine.fail["container"] = down()
    with pytest.raises(EngineDown):
        used.after(IDLE_S)
    assert used.state == "running"
    used.after(1)
    assert used.state == "paused"


def test_the_loop_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.reconcile.EVERY_S", 0.01)
    monkeypatch.setattr("sandboxd.idle.EVERY_S", 0.01)
    monkeypatch.setattr("sandboxd.idle.LEAST_S", 0.01)
    made = Used(world)
    world.reconciler.start()
    until(lambda: bool(made.row.active_mark), "a first look")
    world.now[0] += IDLE_S
    until(lambda: made.state == "paused", "a pause")
