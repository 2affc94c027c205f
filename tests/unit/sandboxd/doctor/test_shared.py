"""The check of shared storage: none, well, silent, not mounted, and another one than before."""

import threading
from pathlib import Path

import pytest

from sandboxd.doctor import shared
from sandboxd.doctor.readers import Readers
from sandboxd.sharedstore import MARKER, SharedStore
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.test_engine import check


@pytest.fixture
def export(tmp_path: Path, world: World) -> Path:
    made = tmp_path / "export"
    made.mkdir()
    (made / MARKER).write_text("0123\n")
    world.sandboxes.shared.store = SharedStore(made, "a", known=tmp_path / "seen")
    return made


def test_a_host_without_any(readers: Readers) -> None:
    check(shared.storage(readers), "skip", "shared_storage", "")


def test_one_that_answers(readers: Readers, export: Path) -> None:
    for _ in range(2):
        check(shared.storage(readers), "ok", f"{export} answers, with the mark 0123", "")


def test_one_at_which_nothing_is_mounted(readers: Readers, export: Path) -> None:
    (export / MARKER).unlink()
    check(shared.storage(readers), "fail", "nothing is mounted", f"findmnt {export}")


def test_another_one_than_before(readers: Readers, export: Path) -> None:
    shared.storage(readers)
    (export / MARKER).write_text("4567\n")
    check(shared.storage(readers), "fail", "its mark is 4567, and was 0123", f"findmnt {export}")


def test_one_that_is_silent(readers: Readers, export: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    world.sandboxes.shared.store = SharedStore(export, "a", wait_s=0.05)
    monkeypatch.setattr(world.sandboxes.shared.store, "_marker", lambda: released.wait(15))
    check(shared.storage(readers), "fail", f"{export} does not answer", f"findmnt {export}")
    released.set()
