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
            real, effective, saved = os.getresuid()
            assert effective == nobody.uid
            assert (real, saved) == (0, 0)  # out of the reach of the other's signals
            assert os.getegid() == nobody.gid and os.getgroups() == [nobody.gid]
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


def test_many_threads_do_not_disturb_each_other(open_directory: Path) -> None:
    """The credentials are a thread's own: others work as root meanwhile. Without root there is nothing to switch to."""
    users = [find_user("nobody"), find_user("daemon"), find_user("root")] if os.geteuid() == 0 else []

    def work(path: Path) -> int:
        path.touch()
        return path.stat().st_uid

    async def all_at_once() -> list[int]:
        return await asyncio.gather(
            *(run_as(user, work, open_directory / f"{user.name}-{turn}") for turn in range(100) for user in users)
        )

    assert asyncio.run(all_at_once()) == [user.uid for user in users] * 100
