"""connect, pause, resume, timeout, kill, by E2B's rules."""

import pytest

from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public
from tests.unit.sandboxd.fake_engine import state_of


def end_of(public: Public, found: str) -> str:
    return str(public.http.get(f"/sandboxes/{found}").json()["endAt"])


def post(public: Public, path: str, status: int, **body: object) -> dict[str, object]:
    answer = public.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json()) if answer.content else {}


@pytest.mark.parametrize("prefix", ["", "/v2"])
def test_connect_only_extends(public: Public, prefix: str) -> None:
    found = public.create(timeout=600)["sandboxID"]
    connected = post(public, f"{prefix}/sandboxes/{found}/connect", 200, timeout=60)
    assert connected["sandboxID"] == found and connected["envdAccessToken"] and connected["domain"] == "example.com"
    assert end_of(public, found) == "2027-01-15T08:10:00.000Z"
    post(public, f"{prefix}/sandboxes/{found}/connect", 200, timeout=1200)
    assert end_of(public, found) == "2027-01-15T08:20:00.000Z"
    assert public.http.post(f"{prefix}/sandboxes/{found}/connect").status_code == 200


@pytest.mark.parametrize("memory", [True, False])
def test_pause_and_connect(public: Public, world: World, memory: bool) -> None:
    found = public.create(timeout=600)["sandboxID"]
    assert public.http.post(f"/sandboxes/{found}/pause", json={"memory": memory}).status_code == 204
    assert world.engine.containers[found].paused is memory
    assert public.http.get(f"/sandboxes/{found}").json()["state"] == "paused"
    assert "paused already" in public.refused("POST", f"/sandboxes/{found}/pause", 409)
    world.now[0] += 10_000
    world.reconciler.expire()
    post(public, f"/sandboxes/{found}/connect", 201, timeout=60)
    assert world.engine.containers[found].running and not world.engine.containers[found].paused
    assert public.http.get(f"/sandboxes/{found}").json()["state"] == "running"


def test_resume_is_for_those_that_are_paused(public: Public) -> None:
    found = public.create()["sandboxID"]
    assert "running already" in public.refused("POST", f"/sandboxes/{found}/resume", 409, json={"timeout": 5})
    public.http.post(f"/sandboxes/{found}/pause")
    assert post(public, f"/sandboxes/{found}/resume", 201, timeout=120)["sandboxID"] == found
    assert end_of(public, found) == "2027-01-15T08:02:00.000Z"


def test_the_timeout_is_set_also_shorter(public: Public, world: World) -> None:
    found = public.create(timeout=600)["sandboxID"]
    post(public, f"/sandboxes/{found}/timeout", 204, timeout=60)
    assert end_of(public, found) == "2027-01-15T08:01:00.000Z"
    post(public, f"/sandboxes/{found}/refreshes", 204, duration=30)
    assert end_of(public, found) == "2027-01-15T08:01:00.000Z", "a refresh only extends"
    post(public, f"/sandboxes/{found}/refreshes", 204, duration=90)
    assert end_of(public, found) == "2027-01-15T08:01:30.000Z"
    post(public, f"/sandboxes/{found}/timeout", 204, timeout=0)
    world.reconciler.expire()
    assert "timeout reached" in public.refused("POST", f"/sandboxes/{found}/timeout", 404, json={"timeout": 1})


def test_a_paused_sandbox_has_no_timeout(public: Public) -> None:
    found = public.create()["sandboxID"]
    public.http.post(f"/sandboxes/{found}/pause")
    assert "paused" in public.refused("POST", f"/sandboxes/{found}/timeout", 404, json={"timeout": 1})


def test_at_its_end_it_is_paused_when_that_was_asked_for(public: Public, world: World) -> None:
    kept, killed = (public.create(timeout=60, autoPause=pause)["sandboxID"] for pause in (True, False))
    assert public.http.get(f"/sandboxes/{kept}").json()["lifecycle"]["onTimeout"] == "pause"
    world.now[0] += 61
    world.reconciler.expire()
    assert world.engine.containers[kept].paused and killed not in world.engine.containers
    assert public.http.get(f"/sandboxes/{kept}").json()["state"] == "paused"
    post(public, f"/sandboxes/{kept}/connect", 201, timeout=60)


def test_the_hourly_cleanup_leaves_it_to_its_timeout(public: Public, world: World) -> None:
    long, paused = (public.create(timeout=7 * 86400)["sandboxID"] for _ in range(2))
    public.http.post(f"/sandboxes/{paused}/pause")
    world.now[0] += 2 * 86400
    assert world.reconciler.cleanup(86400)[0] == []
    assert {one["sandboxID"] for one in public.http.get("/v2/sandboxes").json()} == {long, paused}


def test_one_that_was_given_more_time_meanwhile_is_not_paused(public: Public, world: World) -> None:
    found = public.create(timeout=60, autoPause=True)["sandboxID"]
    (row,) = world.ledger.find(found)
    post(public, f"/sandboxes/{found}/timeout", 204, timeout=600)
    world.transitions.pause_ended(row, world.now[0] + 61)
    assert not world.engine.containers[found].paused


@pytest.mark.parametrize(("memory", "state", "mode"), [(True, "paused", "full"), (False, "exited", "filesystem")])
def test_the_pause_at_its_end_keeps_memory_or_files_only(
    public: Public, world: World, memory: bool, state: str, mode: str
) -> None:
    found = public.create(timeout=60, autoPause=True, autoPauseMemory=memory)["sandboxID"]
    world.now[0] += 61
    world.reconciler.expire()
    assert state_of(world.engine.containers[found]) == state
    details = public.http.get(f"/sandboxes/{found}").json()
    assert (details["state"], details["pauseMode"]) == ("paused", mode)


def test_kill_twice(public: Public, world: World) -> None:
    found = public.create()["sandboxID"]
    public.http.post(f"/sandboxes/{found}/pause")
    assert public.http.delete(f"/sandboxes/{found}").status_code == 204 and world.engine.empty()
    public.refused("DELETE", f"/sandboxes/{found}", 404)
    public.refused("POST", f"/sandboxes/{found}/connect", 404, json={"timeout": 5})


@pytest.mark.parametrize("body", [{}, {"timeout": "5"}, {"timeout": None}])
def test_bad_timeouts(public: Public, body: dict[str, object]) -> None:
    found = public.create()["sandboxID"]
    assert "timeout" in public.refused("POST", f"/sandboxes/{found}/timeout", 400, json=body)
