"""Volumes on shared storage, as several hosts see them: here several stores of one directory."""

import fcntl
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from sandboxd.errors import Conflict, HostError
from sandboxd.sharedstore import IMAGE, LOCK, MARKER, OWNER, STATE, Owner, SharedStore, TakenOver

MARK = "0123456789abcdef"


@pytest.fixture
def export(directory: Path) -> Path:
    """In memory: each record waits for the disk, which may take as long as some have patience here."""
    (directory / MARKER).write_text(f"{MARK}\n")
    return directory.resolve()


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
    before = set(threading.enumerate())
    with pytest.raises(HostError, match="Is its server there"):
        store.take("data", "1")
    released.set()
    ended(before)


def ended(before: set[threading.Thread]) -> None:
    """Those who were left behind have come to their end."""
    for thread in set(threading.enumerate()) - before:
        thread.join(15)


def test_one_who_was_told_that_it_took_too_long_gets_nothing_later(
    here: SharedStore, there: SharedStore, export: Path
) -> None:
    """It would be a volume that nobody knows to have, and an old state over a new one."""
    assert here.take("data", "1") == 1
    here.keep_state("data", "1", 1, state("1"))
    late, its_own = SharedStore(export, "b", wait_s=0.5), SharedStore(export, "a", wait_s=0.5)
    before = set(threading.enumerate())
    with (export / "data" / LOCK).open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for ask in (
            lambda: late.take_over("data", "2", "a"),
            lambda: its_own.keep_state("data", "1", 1, state("1") + " "),
            lambda: its_own.give_back("data", "1", 1),
        ):
            with pytest.raises(HostError, match=r"data does not answer, though its server does.*lease ends"):
                ask()
    ended(before)
    assert here.owner("data") == Owner("a", "1", 1) and here.state("data") == state("1")
    assert there.take_over("data", "2", "a") == 2, "who asks again gets it"


def test_a_lock_that_was_removed_with_its_volume_keeps_nobody_out(
    here: SharedStore, there: SharedStore, export: Path
) -> None:
    """Whoever waits for it makes the volume anew, or finds it made anew by a third host."""
    for third in (None, SharedStore(export, "c")):
        volume = f"of-{third.node if third else 'nobody'}"
        here.take(volume, "1")
        here.give_back(volume, "1", 1)
        with (export / volume / LOCK).open("r+") as held, ThreadPoolExecutor() as other:
            fcntl.flock(held, fcntl.LOCK_EX)
            waits = other.submit(there.take, volume, "2")
            wait_for_another(export / volume / LOCK)
            shutil.rmtree(export / volume)
            if third:
                assert third.take(volume, "3") == 1
            fcntl.flock(held, fcntl.LOCK_UN)
            if third:
                with pytest.raises(Conflict, match="in use on node c"):
                    waits.result()
            else:
                assert waits.result() == 1
        assert here.owner(volume).node == ("c" if third else "b")


def wait_for_another(file: Path) -> None:
    """Until two have it open: this test and who waits."""
    give_up = time.monotonic() + 15
    while opened().count(str(file)) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def opened() -> list[str]:
    """The files that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            found.append(str(link.readlink()))
    return found


def test_removed_by_two_at_once(here: SharedStore, there: SharedStore, export: Path) -> None:
    for _ in range(20):
        here.take("data", "1")
        here.give_back("data", "1", 1)
        with ThreadPoolExecutor() as both:
            for one in [both.submit(store.remove, "data") for store in (here, there)]:
                one.result()
        assert not (export / "data").exists()


def test_other_storage_than_before_is_not_asked(export: Path) -> None:
    """It has none of the volumes, and this host would give up its own."""
    seen = export / "of-the-host"
    host = SharedStore(export, "a", known=seen)
    assert host.take("data", "1") == 1 and seen.read_text() == MARK
    host.check("data", "1", 1)
    other = "fedcba9876543210"
    (export / MARKER).write_text(f"{other}\n")
    for ask in (host.identity, host.names, lambda: host.check("data", "1", 1), lambda: host.take("more", "2")):
        with pytest.raises(HostError, match=f"its mark is {other}, and was {MARK}.*rm {seen}"):
            ask()
    seen.unlink()
    assert host.identity() == other == seen.read_text()


def test_what_else_lies_there_is_no_volume(here: SharedStore, export: Path) -> None:
    (export / "notes").write_text("of an administrator")
    (export / "lost+found").mkdir()
    (export / "empty").mkdir()
    assert here.take("data", "1") == 1 and here.names() == ["data"]
