"""Acting as another user, in one thread and for a while: the kernel then checks file accesses against that user.

Linux keeps credentials per thread. setfsuid(2) changes the one that counts for files and takes root's power over files
away with it; it leaves the agent out of the reach of the user's signals. The groups need the bare system call, because
the C library's setgroups would change every thread.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from envd.users import User

P = ParamSpec("P")
T = TypeVar("T")

_SETGROUPS = {"x86_64": 116}  # number of the system call; where the machine is not named, the generic one holds
_GENERIC_SETGROUPS = 159


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
    number = _SETGROUPS.get(os.uname().machine, _GENERIC_SETGROUPS)
    array = (ctypes.c_uint32 * len(groups))(*groups)
    if libc.syscall(ctypes.c_long(number), ctypes.c_long(len(groups)), array) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot take the groups of uid {uid}: {os.strerror(code)}")
    libc.setfsgid(ctypes.c_uint32(gid))
    libc.setfsuid(ctypes.c_uint32(uid))
    # Neither tells of a failure; asked for an impossible id, both change nothing and answer the present one.
    if (libc.setfsuid(-1), libc.setfsgid(-1)) != (uid, gid):
        raise PermissionError(errno.EPERM, f"cannot act as uid {uid}, gid {gid}")
