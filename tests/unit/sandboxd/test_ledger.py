"""The ledger's transitions, on a real file."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config import Template
from sandboxd.errors import Conflict, HostError, LedgerError, NotFound
from sandboxd.ledger import Ledger
from sandboxd.records import OPEN, TRANSITIONS, Claim, Sandbox, Volume
from sandboxd.routes import Route

BASE = Template("base", "base:1", 2048, 2.0, 1024, 10240, 10240)
IMAGE = "sha256:1"


@pytest.fixture
def ledger(directory: Path) -> Iterator[Ledger]:
    made = Ledger(directory / "ledger.sqlite")
    yield made
    made.close()


def warm(ledger: Ledger, slot: str, created: float = 1.0, image: str = IMAGE) -> None:
    ledger.create(slot, "pool", BASE, image, created, 10240)
    ledger.set_id(slot, f"id{slot}")
    ledger.set_boot(slot, f"10.0.0.{slot}", "boot", image)
    ledger.set_warm(slot, f"pool-{slot}")


def test_a_member_is_claimed_once(ledger: Ledger) -> None:
    warm(ledger, "1")
    claimed = ledger.claim("p", "base", IMAGE, Claim(keep=True, metadata={"a": "b"}), 100.5)
    assert claimed is not None and (claimed.state, claimed.keep, claimed.metadata) == ("running", True, {"a": "b"})
    assert claimed.container == "p-qa-19700101-000140-500"
    assert ledger.claim("p", "base", IMAGE, Claim(), 101) is None
    assert (ledger.counter("hits:base"), ledger.counter("misses:base")) == (1, 1)


def test_the_oldest_member_of_that_image_comes_first(ledger: Ledger) -> None:
    warm(ledger, "1", created=2, image="sha256:old")
    warm(ledger, "2", created=3)
    warm(ledger, "3", created=1)
    claimed = ledger.claim("p", "base", IMAGE, Claim(), 100)
    assert claimed is not None and claimed.slot == "3"


def test_two_claims_in_one_millisecond_have_two_names(ledger: Ledger) -> None:
    warm(ledger, "1")
    warm(ledger, "2")
    names = {found.container for _ in range(2) if (found := ledger.claim("p", "base", IMAGE, Claim(), 7.0))}
    assert len(names) == 2


def test_transitions_that_are_not_allowed_are_refused(ledger: Ledger) -> None:
    warm(ledger, "1")
    with pytest.raises(LedgerError, match="slot 1 is warm, not creating"):
        ledger.set_id("1", "other")
    with pytest.raises(LedgerError, match="slot 9 is not in the ledger"):
        ledger.set_warm("9", "x")
    with pytest.raises(LedgerError, match="is warm, not removing"):
        ledger.set_gone("1", 5)
    assert ledger.set_removing("1", "why", ("running",)) is None


def test_the_first_reason_is_kept(ledger: Ledger) -> None:
    warm(ledger, "1")
    ledger.set_removing("1", "first")
    again = ledger.set_removing("1", "second")
    assert again is not None and again.reason == "first"


def test_why_it_ended_is_not_why_it_was_stopped(ledger: Ledger) -> None:
    bring(ledger, "stopped")
    row = ledger.set_removing("1", "removed by request")
    assert row is not None and row.reason == "removed by request"


def test_a_dead_member_is_no_hit(ledger: Ledger) -> None:
    warm(ledger, "1")
    ledger.claim("p", "base", IMAGE, Claim(), 1)
    ledger.unclaim_dead("1", "dead")
    assert ledger.counter("hits:base") == 0 and ledger.rows("removing")[0].reason == "dead"


def test_ends_routes_and_prefixes_are_those_of_sandboxes_in_use(ledger: Ledger) -> None:
    for slot in "123":
        warm(ledger, slot)
    ledger.claim("p", "base", IMAGE, Claim(timeout_s=10), 100)
    ledger.claim("p", "base", IMAGE, Claim(), 100)
    assert ledger.routes() == [Route("id1", "10.0.0.1"), Route("id2", "10.0.0.2")]
    assert ledger.next_end() == 110
    assert [row.slot for row in ledger.expired(110)] == ["1"] and ledger.expired(109.9) == []
    assert [row.id for row in ledger.find("id")] == ["id1", "id2"] and ledger.find("id3") == []


def test_a_row_that_is_gone_forgets_what_was_told_in_confidence(ledger: Ledger, directory: Path) -> None:
    warm(ledger, "1")
    ledger.claim("p", "base", IMAGE, Claim(envs={"KEY": "secret"}), 1)
    ledger.set_removing("1", "test")
    ledger.set_gone("1", 50)
    row = ledger.get("1")
    assert row is not None and row.envs == {} and row.state == "gone"
    ledger.forget_gone(50)
    assert ledger.get("1") is not None
    ledger.forget_gone(51)
    assert ledger.get("1") is None


def test_everything_survives_a_restart_of_the_daemon(directory: Path) -> None:
    first = Ledger(directory / "l.sqlite")
    warm(first, "1")
    first.claim("p", "base", IMAGE, Claim(envs={"A": "1"}, timeout_s=5), 1)
    first.set_setting("pool_enabled", "yes")
    before = first.rows()
    first.close()
    second = Ledger(directory / "l.sqlite")
    assert second.rows() == before and second.setting("pool_enabled") == "yes" and second.counter("hits:base") == 1
    second.close()


def test_only_root_reads_the_file(ledger: Ledger, directory: Path) -> None:
    assert (directory / "ledger.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_failed_transaction_changes_nothing(ledger: Ledger) -> None:
    warm(ledger, "1")
    with pytest.raises(sqlite3.IntegrityError):
        ledger.create("1", "cold", BASE, IMAGE, 5, 10240)
    assert [row.origin for row in ledger.rows()] == ["pool"]
    warm(ledger, "2")


def test_twenty_claimers_and_ten_members_make_ten_hits(directory: Path) -> None:
    """Each claimer has its own connection, as other processes would."""
    file = directory / "l.sqlite"
    ledgers = [Ledger(file) for _ in range(20)]
    for number in range(10):
        warm(ledgers[0], str(number), created=number)
    together = threading.Barrier(20)

    def claim(ledger: Ledger) -> Sandbox | None:
        together.wait(60)
        return ledger.claim("p", "base", IMAGE, Claim(), 100)

    with ThreadPoolExecutor(20) as several:
        claimed = [row for row in several.map(claim, ledgers) if row]
    assert sorted(row.slot for row in claimed) == [str(number) for number in range(10)]
    assert len({row.container for row in claimed}) == 10
    assert (ledgers[0].counter("hits:base"), ledgers[0].counter("misses:base")) == (10, 10)
    for ledger in ledgers:
        ledger.close()


def test_claimers_on_one_connection_do_not_share_members_either(ledger: Ledger) -> None:
    for number in range(10):
        warm(ledger, str(number))
    with ThreadPoolExecutor(20) as several:
        claimed = list(several.map(lambda _: ledger.claim("p", "base", IMAGE, Claim(), 100), range(20)))
    assert len({row.slot for row in claimed if row}) == 10 and claimed.count(None) == 10


def test_what_is_beside_the_file_is_for_root_too(ledger: Ledger, directory: Path) -> None:
    """The newest rows, with the claimers' variables, are in the -wal file until a checkpoint."""
    warm(ledger, "1")
    files = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert "ledger.sqlite-wal" in files and set(files.values()) == {0o600}


def test_a_commit_that_fails_is_undone_and_the_next_transaction_works(ledger: Ledger) -> None:
    """A constraint that is checked at COMMIT stands for a disk that is full then."""
    ledger._db.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TRIGGER late AFTER INSERT ON settings WHEN NEW.key = 'bad' BEGIN INSERT INTO child VALUES (7); END;"
    )
    with pytest.raises(sqlite3.IntegrityError):
        ledger.set_setting("bad", "1")
    assert ledger.setting("bad") == ""
    ledger.set_setting("good", "1")
    assert ledger.setting("good") == "1"


def test_a_full_disk_is_an_error_of_the_host_and_passes(ledger: Ledger) -> None:
    warm(ledger, "1")
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    claim = Claim(metadata={"large": "x" * 100_000})
    with pytest.raises(HostError, match=r"full.*df -h") as error:
        ledger.claim("p", "base", IMAGE, claim, 100)
    assert error.value.retry_after_s
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    assert ledger.claim("p", "base", IMAGE, claim, 100) is not None
    assert (ledger.counter("hits:base"), ledger.counter("misses:base")) == (1, 0), "the failed claim counted nothing"


@pytest.mark.parametrize("state", ["creating", "warm", "running", "removing"])
def test_removal_may_begin_in_every_open_state(ledger: Ledger, state: str) -> None:
    ledger.create("1", "cold", BASE, IMAGE, 1, 10240)
    if state in ("warm", "running"):
        ledger.set_id("1", "id1")
        ledger.set_boot("1", "10.0.0.1", "boot", IMAGE)
        ledger.set_warm("1", "pool-1")
    if state == "running":
        ledger.claim("p", "base", IMAGE, Claim(), 5)
    if state == "removing":
        ledger.set_removing("1", "why")
    row = ledger.set_removing("1", "why")
    assert row is not None and row.state == "removing"
    ledger.set_gone("1", 9)
    assert ledger.rows() == [] and ledger.set_removing("1", "again") is None


def test_a_cold_create_skips_the_pool(ledger: Ledger) -> None:
    ledger.create("1", "cold", BASE, IMAGE, 1, 10240)
    ledger.set_id("1", "id1")
    ledger.set_boot("1", "10.0.0.1", "boot", IMAGE)
    row = ledger.set_running("p", "1", Claim(timeout_s=3), 5)
    assert (row.state, row.origin, row.claimed_at, row.ends_at) == ("running", "cold", 5, 8)
    assert (ledger.counter("hits:base"), ledger.counter("misses:base")) == (0, 0)


def test_a_sound_file_has_no_faults(ledger: Ledger) -> None:
    warm(ledger, "1")
    assert ledger.faults() == []


def test_a_file_that_was_damaged_while_it_was_open(directory: Path) -> None:
    ledger = Ledger(directory / "ledger.sqlite")
    for number in range(200):
        warm(ledger, str(number))
    ledger.close()
    file = directory / "ledger.sqlite"
    ledger = Ledger(file)
    damaged = bytearray(file.read_bytes())
    damaged[4096 * 3 : 4096 * 6] = b"\xa5" * 4096 * 3
    file.write_bytes(damaged)
    assert ledger.faults()
    ledger.close()


def test_one_is_found_by_its_whole_id(ledger: Ledger) -> None:
    warm(ledger, "1")
    warm(ledger, "12")
    found = ledger.of_id("id1", ("warm",))
    assert found is not None and found.id == "id1"
    assert ledger.of_id("id", ("warm",)) is None and ledger.of_id("id1", ("gone",)) is None


def test_what_is_gone_is_found_by_its_state(ledger: Ledger) -> None:
    warm(ledger, "1")
    ledger.set_removing("1", "pool drained")
    ledger.set_gone("1", 50.0)
    (found,) = ledger.find("id", ("removing", "gone"))
    assert (found.reason, found.gone_at) == ("pool drained", 50.0) and ledger.find("id") == []


def test_sandboxes_are_counted_by_state_and_members_by_template(ledger: Ledger) -> None:
    assert ledger.count("warm", "running").total() == 0 and ledger.members()["base"] == 0
    for slot in "123":
        warm(ledger, slot)
    ledger.create("4", "pool", replace(BASE, name="large"), IMAGE, 1, 10240)
    ledger.claim("p", "base", IMAGE, Claim(), 5)
    assert ledger.count("creating", "warm", "running") == {"creating": 1, "warm": 2, "running": 1}
    assert ledger.count("running") == {"running": 1}
    assert ledger.members() == {"base": 2}
    ledger.set_id("4", "id4")
    ledger.set_warm("4", "pool-4")
    assert ledger.members() == {"base": 2, "large": 1}


# What makes a row of slot 1 arrive in a state, from whichever other one.
MOVES: dict[str, Callable[[Ledger], object]] = {
    "warm": lambda ledger: ledger.set_warm("1", "pool-1"),
    "running": lambda ledger: ledger.set_running("p", "1", Claim(timeout_s=60), 100),
    "running, claimed": lambda ledger: ledger.claim("p", "base", IMAGE, Claim(timeout_s=60), 100),
    "running, resumed": lambda ledger: ledger.set_resumed("1", 60.0, 200),
    "paused": lambda ledger: ledger.set_paused("1"),
    "stopped": lambda ledger: ledger.set_stopped("1", "why"),
    "removing": lambda ledger: ledger.set_removing("1", "why"),
    "gone": lambda ledger: ledger.set_gone("1", 300),
}
# From which states each leads to another; all that is not here is refused. Written out, not taken from TRANSITIONS.
LEADS = {
    "warm": {"creating"},
    "running": {"creating"},
    "running, claimed": {"warm"},
    "running, resumed": {"paused", "stopped"},
    "paused": {"running"},
    "stopped": {"running", "paused"},
    "removing": {"creating", "warm", "running", "paused", "stopped", "removing"},
    "gone": {"removing"},
}
WAYS = {
    "creating": (),
    "warm": ("warm",),
    "running": ("running",),
    "paused": ("running", "paused"),
    "stopped": ("running", "stopped"),
    "removing": ("running", "removing"),
    "gone": ("running", "removing", "gone"),
}


def bring(ledger: Ledger, state: str) -> None:
    """Slot 1 in that state."""
    ledger.create("1", "cold", BASE, IMAGE, 1, 10240)
    ledger.set_id("1", "id1")
    ledger.set_boot("1", "10.0.0.1", "boot", IMAGE)
    for step in WAYS[state]:
        MOVES[step](ledger)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("state", WAYS)
def test_every_state_leads_where_it_may_and_nowhere_else(ledger: Ledger, state: str, move: str) -> None:
    bring(ledger, state)
    before = ledger.get("1")
    if state in LEADS[move]:
        MOVES[move](ledger)
        row = ledger.get("1")
        assert row is not None and row.state == move.partition(",")[0]
    else:
        try:
            assert MOVES[move](ledger) is None  # those for which somebody may have been faster
        except LedgerError as error:
            assert f"slot 1 is {state}" in str(error)
        assert ledger.get("1") == before


def test_the_tables_agree() -> None:
    allowed = {(source, move.partition(",")[0]) for move, sources in LEADS.items() for source in sources}
    assert allowed - {("removing", "removing")} == {
        (source, target) for source, targets in TRANSITIONS.items() for target in targets
    }
    assert set(WAYS) == set(TRANSITIONS) and "gone" not in OPEN


def test_time_stands_still_while_it_is_paused_or_stopped(ledger: Ledger) -> None:
    bring(ledger, "running")
    assert ledger.next_end() == 160
    assert (ledger.set_paused("1").ends_at, ledger.next_end(), ledger.routes()) == (None, None, [])
    assert ledger.set_stopped("1", "why").reason == "why" and ledger.expired(1e12) == []
    row = ledger.set_resumed("1", 30.0, 1000)
    assert (row.ends_at, row.timeout_s, row.reason) == (1030, 30, "") and ledger.routes() == [Route("id1", "10.0.0.1")]


def test_a_new_end(ledger: Ledger) -> None:
    bring(ledger, "running")
    assert ledger.set_end("1", 5.0, 1000).ends_at == 1005
    assert ledger.set_end("1", None, 1000).ends_at is None
    ledger.set_paused("1")
    row = ledger.set_end("1", 7.0, 1000)
    assert (row.timeout_s, row.ends_at) == (7, None)
    ledger.set_removing("1", "why")
    with pytest.raises(LedgerError, match="slot 1 is removing"):
        ledger.set_end("1", 7.0, 1000)


def test_a_removal_for_its_end_wants_that_end(ledger: Ledger) -> None:
    bring(ledger, "running")
    ledger.set_end("1", 60.0, 1000)
    assert ledger.set_removing("1", "timeout reached", ("running",), 1059) is None
    ledger.set_end("1", None, 1000)
    assert ledger.set_removing("1", "timeout reached", ("running",), 1e12) is None
    ledger.set_end("1", 60.0, 1000)
    assert ledger.set_removing("1", "timeout reached", ("running",), 1060) is not None


def hold(ledger: Ledger, slot: str, name: str, size_mb: int, now: float) -> Sandbox:
    return ledger.create(slot, "cold", BASE, IMAGE, now, size_mb, Claim(volume=name))


def leave(ledger: Ledger, slot: str, volume_lost: bool = False) -> None:
    ledger.set_removing(slot, "test")
    ledger.set_gone(slot, 500, volume_lost)


def test_a_volume_belongs_to_one_at_a_time_and_keeps_its_size(ledger: Ledger) -> None:
    first = hold(ledger, "1", "data", 100, 10)
    assert (first.volume, first.disk_mb, ledger.made_for(first)) == ("data", 100, True)
    with pytest.raises(Conflict, match=r"'data' is in use by sandbox 1\. Kill that one first"):
        hold(ledger, "2", "data", 100, 11)
    assert ledger.get("2") is None
    ledger.set_id("1", "id1")
    ledger.set_removing("1", "test")
    with pytest.raises(Conflict, match="id1"):
        hold(ledger, "2", "data", 100, 11)
    ledger.set_gone("1", 500)
    assert ledger.volumes() == [Volume("data", 100, 10, "", "")]
    second = hold(ledger, "2", "data", 300, 12)
    assert second.disk_mb == 100 and not ledger.made_for(second)
    assert ledger.volumes() == [Volume("data", 100, 10, "2", "2")]
    ledger.set_id("2", "id2")
    assert ledger.volumes()[0].sandbox_id == "id2"


def test_a_disk_that_was_grown_and_with_it_its_volume(ledger: Ledger) -> None:
    hold(ledger, "1", "data", 100, 10)
    hold(ledger, "2", "", 100, 10)
    for slot in "12":
        ledger.set_id(slot, f"id{slot}")
        ledger.set_boot(slot, f"10.0.0.{slot}", "boot", IMAGE)
        ledger.set_running("p", slot, Claim(), 20)
        assert ledger.set_disk(slot, 200 + int(slot)).disk_mb == 200 + int(slot)
    assert [(volume.name, volume.size_mb) for volume in ledger.volumes()] == [("data", 201)]


def test_a_volume_that_was_never_made_is_forgotten_with_its_sandbox(ledger: Ledger) -> None:
    hold(ledger, "1", "data", 100, 10)
    hold(ledger, "2", "other", 100, 10)
    leave(ledger, "1", volume_lost=True)
    assert [volume.name for volume in ledger.volumes()] == ["other"]


def test_a_volume_is_removed_with_its_file_or_not_at_all(ledger: Ledger) -> None:
    removed: list[str] = []

    def refuse() -> None:
        raise HostError("read-only file system")

    hold(ledger, "1", "data", 100, 10)
    with pytest.raises(Conflict, match="in use by sandbox 1"):
        ledger.remove_volume("data", lambda: removed.append("data"))
    leave(ledger, "1")
    with pytest.raises(HostError):
        ledger.remove_volume("data", refuse)
    assert [volume.name for volume in ledger.volumes()] == ["data"] and removed == []
    ledger.remove_volume("data", lambda: removed.append("data"))
    assert ledger.volumes() == [] and removed == ["data"]
    with pytest.raises(NotFound, match=r"'data' not found.*volume ls"):
        ledger.remove_volume("data", lambda: removed.append("data"))
    assert removed == ["data"]


def test_of_many_who_want_a_volume_one_gets_it(ledger: Ledger) -> None:
    def take(number: int) -> bool:
        try:
            hold(ledger, str(number), "data", 100, number)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(10) as several:
        assert list(several.map(take, range(10))).count(True) == 1
    assert len(ledger.rows()) == 1
