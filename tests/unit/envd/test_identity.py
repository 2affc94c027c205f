import asyncio
import os
from pathlib import Path

import pytest

from envd.identity import acting_as, is_own, run_as
from envd.users import User, find_user


def credentials_of_this_thread() -> list[str]:
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("Uid", "Gid", "Groups"))]


def test_acting_as_oneself_changes_nothing(myself: User) -> None:
    before = credentials_of_this_thread()
    assert is_own(myself)
    with acting_as(myself):
        assert credentials_of_this_thread() == before


def test_a_thread_acts_as_another_and_comes_back(open_directory: Path) -> None:
    """Root may; anybody else is refused, and acts for nobody."""
    nobody = find_user("nobody")
    own = open_directory / "own"
    own.touch(mode=0o600)

    def work() -> int:
        with pytest.raises(PermissionError):
            own.open()
        (open_directory / "new").touch()
        os.mkdir(open_directory / "sub")
        return (open_directory / "new").stat().st_uid

    before = credentials_of_this_thread()
    if os.geteuid() == 0:
        assert asyncio.run(run_as(nobody, work)) == nobody.uid
        with acting_as(nobody):
            for_files = {line.split()[0]: line.split()[-1] for line in credentials_of_this_thread()}
            assert for_files == {"Uid:": str(nobody.uid), "Gid:": str(nobody.gid), "Groups:": str(nobody.gid)}
            assert os.geteuid() == 0  # out of the reach of the other's signals
        assert own.open().read() == ""
    else:
        with pytest.raises(PermissionError):
            asyncio.run(run_as(nobody, work))
    assert credentials_of_this_thread() == before


def test_an_exception_comes_through_and_the_thread_comes_back(myself: User) -> None:
    def fail() -> None:
        raise ValueError("x")

    user = find_user("nobody") if os.geteuid() == 0 else myself
    before = credentials_of_this_thread()
    with pytest.raises(ValueError, match="x"), acting_as(user):
        fail()
    assert credentials_of_this_thread() == before
