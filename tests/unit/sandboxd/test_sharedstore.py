"""Volumes on shared storage, as several hosts see them: here several stores of one directory."""

import json
import threading
from pathlib import Path

import pytest

from sandboxd.errors import Conflict, HostError
from sandboxd.sharedstore import IMAGE, MARKER, OWNER, STATE, Owner, SharedStore, TakenOver

MARK = "0123456789abcdef"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / MARKER).write_text(f"{MARK}\n")
    return tmp_path


@pytest.fixture
def here(export: Path) -> SharedStore:
    return SharedStore(export, "a")


@pytest.fixture
def there(export: Path) -> SharedStore:
    return SharedStore(export, "b")


def state(slot: str) -> str:
    return json.dumps({"slot": slot})


def test_one_host_has_it_at_a_time(here: SharedStore, there: SharedStore, export: Path) -> None:
    assert not here.has("data") and here.names() == []
    assert here.take("data", "1") == 1
    assert there.names() == ["data"] and there.owner("data") == Owner("a", "1", 1)
    with pytest.raises(Conflict, match=r"in use on node a.*node fenced a --yes"):
        there.take("data", "2")
    here.check("data", "1", 1)
    here.give_back("data", "1", 1)
    assert there.take("data", "2") == 2
    with pytest.raises(TakenOver, match="taken over by node b"):
        here.check("data", "1", 1)
    assert (export / "data").stat().st_mode & 0o777 == 0o700
    assert (export / "data" / OWNER).stat().st_mode & 0o777 == 0o600


def test_of_many_who_take_it_at_once_one_gets_it(export: Path) -> None:
    got: list[str] = []

    def take(name: str) -> None:
        try:
            SharedStore(export, name).take("data", name)
            got.append(name)
        except Conflict:
            pass

    threads = [threading.Thread(target=take, args=(f"n{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1 and SharedStore(export, "x").owner("data").node == got[0]


def test_only_from_a_host_that_is_named_it_is_taken_over(here: SharedStore, there: SharedStore, export: Path) -> None:
    here.take("data", "1")
    here.keep_state("data", "1", 1, state("1"))
    third = SharedStore(export, "c")
    with pytest.raises(Conflict, match="is not node b's, but node a's"):
        third.take_over("data", "3", "b")
    assert there.take_over("data", "2", "a") == 2
    with pytest.raises(TakenOver):
        here.check("data", "1", 1)
    with pytest.raises(TakenOver):
        here.keep_state("data", "1", 1, "")
    here.give_back("data", "1", 1)
    assert there.owner("data") == Owner("b", "2", 2) and there.state("data") == state("1")


def test_a_number_that_has_passed_is_not_valid_for_the_same_host_either(here: SharedStore) -> None:
    here.take("data", "1")
    here.give_back("data", "1", 1)
    here.take("data", "2")
    for slot, number in (("1", 1), ("2", 1), ("1", 2)):
        with pytest.raises(TakenOver):
            here.check("data", slot, number)


def test_what_waits_to_be_made_anew_is_given_to_nobody_else(here: SharedStore, there: SharedStore) -> None:
    here.take("data", "1")
    here.keep_state("data", "1", 1, state("1"))
    there.take_over("data", "2", "a")
    there.give_back("data", "2", 2)  # it could not be made there
    assert there.owner("data") == Owner("", "", 2) and there.state("data") == state("1")
    with pytest.raises(Conflict, match="waits for its sandbox"):
        here.take("data", "3")
    assert here.take_over("data", "4", "a") == 3, "another one may make it"


def test_a_sandbox_that_ends_leaves_nothing_to_be_made_anew(here: SharedStore, export: Path) -> None:
    here.take("data", "1")
    here.keep_state("data", "1", 1, state("1"))
    assert (export / "data" / STATE).stat().st_mode & 0o777 == 0o600
    here.give_back("data", "1", 1)
    assert here.state("data") == ""
    here.take("data", "2")
    here.keep_state("data", "2", 2, state("2"))
    here.keep_state("data", "2", 2, "")
    assert here.state("data") == ""


def test_freed_from_a_host_that_is_off(here: SharedStore, there: SharedStore) -> None:
    here.take("data", "1")
    assert not there.free_from("data", "c") and there.free_from("data", "a")
    assert there.take("data", "2") == 3


def test_removed_by_whoever_could_have_it(here: SharedStore, there: SharedStore, export: Path) -> None:
    here.take("data", "1")
    (export / "data" / IMAGE).write_bytes(b"\0" * 3 * 1024 * 1024)
    assert there.size_mb("data") == 3 and there.made_at("data") > 0
    with pytest.raises(Conflict, match="in use on node a"):
        there.remove("data")
    here.give_back("data", "1", 1)
    there.remove("data")
    there.remove("data")
    assert not (export / "data").exists() and there.size_mb("data") is None


def test_a_directory_at_which_nothing_is_mounted_is_none(here: SharedStore, export: Path) -> None:
    assert here.identity() == MARK
    (export / MARKER).unlink()
    for ask in (here.identity, here.names, lambda: here.take("data", "1"), lambda: here.check("data", "1", 1)):
        with pytest.raises(HostError, match="nothing is mounted"):
            ask()
    assert list(export.iterdir()) == []


def test_a_record_that_cannot_be_read_is_nobodys_to_take(here: SharedStore, export: Path) -> None:
    here.take("data", "1")
    (export / "data" / OWNER).write_text("{")
    with pytest.raises(HostError, match="Nobody can tell whose the volume is"):
        here.take("data", "2")
    with pytest.raises(HostError):
        here.check("data", "1", 1)


def test_storage_that_hangs_does_not_hang_us(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, released = SharedStore(export, "a", wait_s=0.05), threading.Event()
    monkeypatch.setattr(store, "_marker", lambda: released.wait(15))
    with pytest.raises(HostError, match="does not answer"):
        store.take("data", "1")
    released.set()
