"""Rows that are made from what was found."""

import sqlite3
from pathlib import Path

import pytest

from sandboxd.ledger import Ledger
from sandboxd.policy import EVERYTHING, Policy
from sandboxd.records import Claim, Mount, Volume

KNOWN = {
    "slot": "a",
    "id": "ida",
    "state": "running",
    "origin": "cold",
    "template": "base",
    "image_id": "sha256:1",
    "memory_mb": 512,
    "cpus": 0.5,
    "disk_mb": 2048,
    "volume": "data",
    "container": "acme-qa-1",
    "created_at": 1.0,
    "claimed_at": 2.0,
}


def test_an_adopted_sandbox_is_as_good_as_any(directory: Path) -> None:
    ledger = Ledger(directory / "l.sqlite")
    ledger.enter_volume(Volume("vol-1", 64, 1.0, "", ""))
    closed = Policy(deny=(EVERYTHING,))
    mounts = (Mount("vol-1", "cache", "/cache"),)
    claim = Claim(keep=True, envs={"A": "1"}, owner="ci", access="token", policy=closed, mounts=mounts)
    row = ledger.adopt(KNOWN, claim)
    assert (row.id, row.state, row.envs, row.owner, row.access, row.policy) == (
        *("ida", "running", {"A": "1"}, "ci", "token"),
        closed,
    )
    assert {one.name: (one.size_mb, one.slot, one.owner, one.title) for one in ledger.volumes()} == {
        "data": (2048, "a", "", ""),
        "vol-1": (64, "a", "ci", "cache"),
    }
    assert ledger.set_paused("a").state == "paused" and ledger.find("id")[0].slot == "a"
    ledger.set_removing("a", "test")
    ledger.set_gone("a", 3.0)
    ledger.close()


def test_who_is_there_is_not_adopted_twice(directory: Path) -> None:
    ledger = Ledger(directory / "l.sqlite")
    ledger.adopt(KNOWN, Claim())
    with pytest.raises(sqlite3.IntegrityError):
        ledger.adopt({**KNOWN, "container": "acme-qa-2"}, Claim())
    ledger.close()


def test_a_volume_that_is_known_keeps_its_size(directory: Path) -> None:
    ledger = Ledger(directory / "l.sqlite")
    for size_mb in (64, 128):
        ledger.enter_volume(Volume("data", size_mb, 1.0, "", ""))
    assert [volume.size_mb for volume in ledger.volumes()] == [64]
    ledger.close()
