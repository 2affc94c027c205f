"""The watching part of filesystem.Filesystem as a client meets it."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from envd import watch_service, watches
from envd.config import AgentConfig
from envd.connect import Call
from envd.errors import EnvdError
from envd.users import User
from envd.watch_service import WatchService
from tests.unit.envd.client import DEADLINES_MS, MYSELF, TOKEN, Client, Json, Running, eventually

FS = "filesystem.Filesystem"


def short(event: Json) -> tuple[str, str]:
    return event["name"], event["type"].removeprefix("EVENT_TYPE_").lower()


def call_of(user: User) -> Call:
    return Call(user=user, config=AgentConfig("t"), started_s=0, timeout_s=None, keepalive_s=90)


@contextmanager
def following(client: Client, message: Json) -> Iterator[Iterator[tuple[str, str]]]:
    """The events of a stream that has begun."""
    with client.stream(f"{FS}/WatchDir", message) as messages:
        assert next(messages) == {"start": {}}
        yield (short(message["filesystem"]) for message in messages)


@contextmanager
def watcher(client: Client, **message: object) -> Iterator[str]:
    identity: str = client.ok(f"{FS}/CreateWatcher", message)["watcherId"]
    yield identity
    client.ok(f"{FS}/RemoveWatcher", {"watcherId": identity})


def instances(agent: Running) -> int:
    """How many of inotify the agent has open, whatever else comes and goes there."""
    found = 0
    for link in Path(f"/proc/{agent.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since it was listed
            found += "inotify" in os.readlink(link)
    return found


def collected(client: Client, identity: str, last: tuple[str, str]) -> list[Json]:
    """What a watcher has, up to an event that must come."""
    seen: list[Json] = []

    def complete() -> bool:
        seen.extend(client.ok(f"{FS}/GetWatcherEvents", {"watcherId": identity})["events"])
        return last in map(short, seen)

    eventually(complete, f"the watcher has {last}")
    return seen


def test_a_stream_tells_what_happens(client: Client, tmp_path: Path) -> None:
    with following(client, {"path": str(tmp_path), "recursive": True}) as events:
        client.upload(f"{tmp_path}/sub/a", b"1")
        before = list(itertools.takewhile(lambda event: event != ("sub/a", "create"), events))
        (tmp_path / "sub/a").rename(tmp_path / "b")
        after = list(itertools.takewhile(lambda event: event != ("b", "create"), events))
    assert before == [("sub", "create")]
    assert [event for event in after if event != ("sub/a", "write")] == [("sub/a", "rename")]


def test_a_quiet_stream_is_kept_alive_until_its_deadline(client: Client, tmp_path: Path) -> None:
    for deadline_ms in DEADLINES_MS:  # the first watch of an agent has something to import
        headers = {"Keepalive_Ping_Interval": "0.05", "Connect_Timeout_Ms": str(deadline_ms)}
        with client.stream(f"{FS}/WatchDir", {"path": str(tmp_path)}, **headers) as messages:
            *told, trailer = messages
        assert trailer["error"]["code"] == "deadline_exceeded"
        if len(told) > 1:
            break
    assert told[:2] == [{"start": {}}, {"keepalive": {}}]


def test_relative_paths_and_entries(client: Client, workdir: Path) -> None:
    (workdir / "watched").mkdir(exist_ok=True)
    with client.stream(f"{FS}/WatchDir", {"path": "watched", "includeEntry": True}) as messages:
        assert next(messages) == {"start": {}}
        (workdir / "watched/dir").mkdir()
        created = next(messages)["filesystem"]
        (workdir / "watched/dir").rmdir()
        removed = next(messages)["filesystem"]
    assert short(created) == ("dir", "create")
    assert (created["entry"]["path"], created["entry"]["type"]) == (f"{workdir}/watched/dir", "FILE_TYPE_DIRECTORY")
    assert removed == {"name": "dir", "type": "EVENT_TYPE_REMOVE"}


@pytest.mark.parametrize("method", ["CreateWatcher", "WatchDir"])
def test_what_cannot_be_watched(client: Client, tmp_path: Path, method: str) -> None:
    (tmp_path / "file").touch()

    def code(path: str, user: str | None = None) -> str:
        if method == "CreateWatcher":
            return client.error(f"{FS}/{method}", {"path": path}, user)
        with client.stream(f"{FS}/{method}", {"path": path}, user) as messages:
            (trailer,) = messages
        return str(trailer["error"]["code"])

    assert code(f"{tmp_path}/none") == "not_found"
    assert code(f"{tmp_path}/file") == "invalid_argument"
    assert code("/a\0b") == "invalid_argument"


def test_it_is_the_user_who_watches(client: Client, open_directory: Path) -> None:
    """Root watches as the other; an agent that is not root refuses."""
    (open_directory / "closed/sub").mkdir(parents=True)
    (open_directory / "closed").chmod(0o700)
    for path in ("closed", "closed/sub"):
        assert (
            client.error(f"{FS}/CreateWatcher", {"path": f"{open_directory}/{path}"}, "nobody") == "permission_denied"
        )
    if os.geteuid() == 0:
        message = {"path": str(open_directory), "recursive": True}
        identity = client.ok(f"{FS}/CreateWatcher", message, "nobody")["watcherId"]
        (open_directory / "closed/sub/secret").touch()
        (open_directory / "open").touch()
        seen = collected(client, identity, ("open", "create"))
        assert [short(event) for event in seen] == [("open", "create")]
        client.ok(f"{FS}/RemoveWatcher", {"watcherId": identity})


def test_the_first_thing_that_an_agent_does_may_be_a_watch_as_another_user(open_directory: Path) -> None:
    """Python's own files may be closed to that user: nothing may be imported in his name."""
    directory = open_directory / "agent"
    directory.mkdir(mode=0o700)
    running = Running(directory, accessToken=TOKEN, user=MYSELF, workdir="/")
    try:
        response = Client(running.port).rpc(f"{FS}/CreateWatcher", {"path": str(open_directory)}, user="nobody")
        assert response.status_code == (200 if os.geteuid() == 0 else 403), response.text
    finally:
        running.stop()


def test_a_watcher_collects_until_it_is_asked(client: Client, tmp_path: Path) -> None:
    with watcher(client, path=str(tmp_path), include_entry=True) as identity:
        (tmp_path / "a").write_text("123")
        (tmp_path / "b").mkdir()
        a, *_, b = collected(client, identity, ("b", "create"))
        assert client.ok(f"{FS}/GetWatcherEvents", {"watcher_id": identity}) == {"events": []}
        assert (a["entry"]["path"], b["entry"]["type"]) == (f"{tmp_path}/a", "FILE_TYPE_DIRECTORY")
        (tmp_path / "b").rmdir()
        (gone,) = collected(client, identity, ("b", "remove"))
        assert "entry" not in gone
    for method in ("GetWatcherEvents", "RemoveWatcher"):
        response = client.rpc(f"{FS}/{method}", {"watcherId": identity})
        assert response.json() == {"code": "not_found", "message": f"watcher with id {identity} not found"}


def test_nothing_stays_open(client: Client, agent: Running, tmp_path: Path) -> None:
    with watcher(client, path=str(tmp_path)):  # what the first one imports stays
        pass
    client.run("true")
    eventually(lambda: instances(agent) == 0, "those of earlier tests are closed")
    before = agent.open_fds()
    for _ in range(3):
        with following(client, {"path": str(tmp_path)}):
            assert instances(agent) > 0
        with watcher(client, path=str(tmp_path), recursive=True):
            assert instances(agent) > 0
        assert client.error(f"{FS}/CreateWatcher", {"path": "/no/such"}) == "not_found"
    eventually(lambda: instances(agent) == 0 and agent.open_fds() <= before, "no inotify instance stays open")


def test_too_many_watches(tmp_path: Path, myself: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a service of its own: the kernel counts the instances of all processes of a user."""
    monkeypatch.setattr(watches, "MAX_WATCHES", 2)

    async def scenario() -> None:
        service, message = WatchService(), {"path": str(tmp_path)}
        first, second = [await service.create_watcher(call_of(myself), message) for _ in range(2)]
        with pytest.raises(EnvdError, match="2 watches in this sandbox already") as raised:
            await service.create_watcher(call_of(myself), message)
        assert raised.value.code == "resource_exhausted"
        await service.remove_watcher(call_of(myself), first)
        while len(service._watches) == 2:
            await asyncio.sleep(0.001)
        third = await service.create_watcher(call_of(myself), message)
        for made in (second, third):
            await service.remove_watcher(call_of(myself), made)

    asyncio.run(scenario())


def test_a_removed_directory_ends_nothing(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with watcher(client, path=f"{tmp_path}/a") as identity:
        (tmp_path / "a").rmdir()
        assert [short(event) for event in collected(client, identity, (".", "remove"))] == [(".", "remove")]
        assert client.ok(f"{FS}/GetWatcherEvents", {"watcherId": identity}) == {"events": []}


def test_what_a_watcher_has_seen_is_described_as_it_was(tmp_path: Path, myself: User) -> None:
    async def scenario() -> None:
        service = WatchService()
        identity = await service.create_watcher(call_of(myself), {"path": str(tmp_path), "includeEntry": True})
        (tmp_path / "a").mkdir(mode=0o700)
        while not service._watchers[identity["watcherId"]]._events:
            await asyncio.sleep(0.001)
        (tmp_path / "a").rmdir()
        created, *_ = (await service.get_watcher_events(call_of(myself), identity))["events"]
        assert (short(created), created["entry"]["mode"]) == (("a", "create"), 0o700)
        await service.remove_watcher(call_of(myself), identity)

    asyncio.run(scenario())


def test_a_watcher_that_nobody_asks_fills_no_memory(
    tmp_path: Path, myself: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = watch_service.EVENT_COST_BYTES + len('{"name": "00", "type": "EVENT_TYPE_CREATE"}')
    monkeypatch.setattr(watch_service, "MAX_COLLECTED_BYTES", 20 * cost)
    monkeypatch.setattr(watch_service, "DRAINED_EVENTS", 8)

    async def scenario() -> None:
        service = WatchService()
        call = call_of(myself)
        identity = await service.create_watcher(call, {"path": str(tmp_path)})
        for number in range(100):
            (tmp_path / f"{number:02}").mkdir()
        while service._watches:  # it has given up
            await asyncio.sleep(0.001)
        answers = [await service.get_watcher_events(call, identity) for _ in range(3)]
        assert [len(answer["events"]) for answer in answers[:2]] == [8, 8]
        names = [event["name"] for answer in answers for event in answer["events"]]
        assert names == [f"{number:02}" for number in range(len(names))] and len(names) == 20
        for _ in range(2):
            with pytest.raises(EnvdError, match="ask more often"):
                await service.get_watcher_events(call, identity)
        await service.remove_watcher(call, identity)
        with pytest.raises(EnvdError, match="not found"):
            await service.get_watcher_events(call, identity)

    asyncio.run(scenario())
