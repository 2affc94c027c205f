"""Acting as another user, in one thread and for a while: the kernel then checks file accesses against that user.

Linux keeps credentials per thread, but the C library changes those of all threads together, hence the bare system
calls. Only the effective ids change, and with them root's power over files goes away. The real and the saved id stay
root's: that is the way back, and it keeps the agent out of the reach of the user's signals. (setfsuid would be made
for this, but gVisor has none.)
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from envd.users import User

P = ParamSpec("P")
T = TypeVar("T")

# Numbers of setgroups, setresgid, setresuid; where the machine is not named, those of Linux's generic table hold.
_NUMBERS = {"x86_64": (116, 119, 117)}
_GENERIC_NUMBERS = (159, 149, 147)
_KEEP = 2**32 - 1  # leaves an id as it is


async def run_as(user: User, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking `function` as `user` in a thread: a slow disk, or a huge tree, holds nobody else up."""

    def run() -> T:
        with acting_as(user):
            return function(*args, **kwargs)

    return await asyncio.to_thread(run)


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Give this thread the user's rights over files, no more and no less; raises PermissionError unless root may."""
    own_uid, own_gid, own_groups = os.geteuid(), os.getegid(), os.getgroups()
    if is_own(user):
        yield
        return
    try:
        _assume(user.uid, user.gid, user.groups)
        yield
    finally:
        _assume(own_uid, own_gid, own_groups)


def is_own(user: User) -> bool:
    """Whether `user` is whom the agent runs as, so that there is nothing to change."""
    return (user.uid, user.gid) == (os.geteuid(), os.getegid()) and set(user.groups) <= {*os.getgroups(), user.gid}


def _assume(uid: int, gid: int, groups: tuple[int, ...] | list[int]) -> None:
    import ctypes  # here, because an agent that serves no files need not hold it in memory

    libc = ctypes.CDLL(None, use_errno=True)
    setgroups, setresgid, setresuid = _NUMBERS.get(os.uname().machine, _GENERIC_NUMBERS)
    array = (ctypes.c_uint32 * len(groups))(*groups)

    def call(number: int, *arguments: object) -> None:
        if libc.syscall(ctypes.c_long(number), *arguments) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot act as uid {uid}, gid {gid}: {os.strerror(code)}")

    def effective(number: int, identity: int) -> None:
        call(number, *(ctypes.c_uint32(value) for value in (_KEEP, identity, _KEEP)))

    # The power to change groups comes and goes with the effective uid: it is given up last, and taken back first.
    if uid == os.getuid():
        effective(setresuid, uid)
    call(setgroups, ctypes.c_long(len(groups)), array)
    effective(setresgid, gid)
    if uid != os.getuid():
        effective(setresuid, uid)
