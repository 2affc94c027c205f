"""Runs in a sandbox, as whoever calls it: tries what a container should not be able to do, one try a process.

Prints a JSON object: what was tried -> "ok", the name of the error, or "killed by" a signal. Needs nothing but Python.
The kernel is the host's: each try does no harm where it succeeds, and writes what is there already.
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
# name -> number on x86_64, on aarch64 (None: not there). The arguments are zeros: the kernel itself would complain of
# these, or of a missing right, and only a filter says EPERM to all of them.
CALLS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fsopen": (430, 430),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "request_key": (249, 218),
    "setns": (308, 268),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
}
NUMBERS = {name: number for name, numbers in CALLS.items() if (number := numbers[not X86]) is not None}
SOCKET, UNSHARE, PTRACE = (41, 272, 101) if X86 else (198, 97, 117)
V1 = os.path.isdir("/sys/fs/cgroup/memory")
CGROUP, LIMIT = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if V1 else ("/sys/fs/cgroup", "memory.max")
NEWUSER, NEWNET, NEWNS = 0x10000000, 0x40000000, 0x20000
PTRACE_TRACEME, PTRACE_CONT, PTRACE_SEIZE = 0, 7, 0x4206
FAMILIES = {
    "packet": (17, 3),
    "can": (29, 3),
    "tipc": (30, 5),
    "bluetooth": (31, 3),
    "alg": (38, 5),
    "vsock": (40, 1),
    "smc": (43, 1),
    "xdp": (44, 3),
}


def call(number: int, *arguments: int) -> int:
    """A system call. Raises OSError."""
    result = int(libc.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def opened(family: int, kind: int, protocol: int = 0) -> None:
    """By the number, so that Python's own checks have no part in it."""
    os.close(call(SOCKET, family, kind, protocol))


def ping(family: int, protocol: int, address: str) -> None:
    """One echo request to this very machine, and its answer."""
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as pinger:
        pinger.settimeout(10)
        request = 8 if family == socket.AF_INET else 128
        pinger.sendto(bytes([request, 0, 0, 0, 0, 0, 0, 1]) + b"hello", (address, 0))
        answer = pinger.recv(100)
    if answer[8:] != b"hello":
        raise OSError(errno.EBADMSG, repr(answer))


def traced_child() -> None:
    """What a debugger does with a program that it starts."""
    child = os.fork()
    if child == 0:
        call(PTRACE, PTRACE_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(7)
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        raise OSError(errno.ECHILD, f"status {status}")
    call(PTRACE, PTRACE_CONT, child, 0, 0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 7:
        raise OSError(errno.ECHILD, f"status {status}")


def old_call() -> None:
    """`getpid` of 32-bit programs, which a program of 64 bits can reach, too: mov eax, 20; int 0x80; ret."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()


def locked() -> None:
    """Twice the memory that may be locked."""
    size = 16 * 1024 * 1024
    memory = mmap.mmap(-1, size)
    if libc.mlock(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory))), ctypes.c_size_t(size)):
        raise OSError(ctypes.get_errno(), "mlock")


def node(mode: int, major: int, minor: int) -> None:
    path = f"/tmp/node-{os.getpid()}"
    os.mknod(path, mode | 0o600, os.makedev(major, minor))
    os.unlink(path)


def rewritten(path: str, pattern: str = "(.*)") -> None:
    """With what is there: the first group of the pattern in it."""
    with open(path) as file:
        found = re.search(pattern, file.read())
    with open(path, "w") as file:
        file.write(found[1] if found else "")


def directory(path: str) -> None:
    os.mkdir(path)
    os.rmdir(path)


def sysrq() -> None:
    """`h` prints a help into the kernel's log."""
    with open("/proc/sysrq-trigger", "w") as file:
        file.write("h")


def clock() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time())


TRIES: dict[str, Callable[[], object]] = {
    "socket unix": lambda: opened(1, 1),
    "socket tcp": lambda: opened(2, 1, 6),
    "socket udp": lambda: opened(2, 2, 17),
    "socket tcp of IPv6": lambda: opened(10, 1),
    "socket netlink route": lambda: opened(16, 3, 0),
    "socket netlink sock_diag": lambda: opened(16, 3, 4),
    "socket netlink netfilter": lambda: opened(16, 3, 12),
    "socket netlink generic": lambda: opened(16, 3, 16),
    "socket raw icmp": lambda: opened(2, 3, 1),
    "socket raw of IPv6": lambda: opened(10, 3, 58),
    "socket sctp": lambda: opened(2, 1, 132),
    "socket packet by a long number": lambda: opened(17 | 1 << 32, 3),
    "socket vsock by a long number": lambda: opened(40 | 1 << 32, 1),
    **{f"socket {name}": partial(opened, family, kind) for name, (family, kind) in FAMILIES.items()},
    "ping": lambda: ping(socket.AF_INET, socket.IPPROTO_ICMP, "127.0.0.1"),
    **{f"call {name}": partial(call, number, 0, 0, 0, 0, 0) for name, number in NUMBERS.items()},
    "unshare user": lambda: call(UNSHARE, NEWUSER),
    "unshare user and net": lambda: call(UNSHARE, NEWUSER | NEWNET),
    "unshare mounts": lambda: call(UNSHARE, NEWNS),
    "unshare user and mounts": lambda: call(UNSHARE, NEWUSER | NEWNS),
    "trace a child": traced_child,
    "trace the init": lambda: call(PTRACE, PTRACE_SEIZE, 1, 0, 0),
    "lock much memory": locked,
    "fifo": lambda: node(0o010000, 0, 0),
    "device mem": lambda: node(0o020000, 1, 1),
    "device tun": lambda: node(0o020000, 10, 200),
    "device loop": lambda: node(0o060000, 7, 0),
    "sysrq": sysrq,
    "write core pattern": lambda: rewritten("/proc/sys/kernel/core_pattern"),
    "write huge pages": lambda: rewritten("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(.*)\]"),
    "write hostname": lambda: socket.sethostname(socket.gethostname()),
    "make a cgroup": lambda: directory(f"{CGROUP}/mine"),
    "write a limit": lambda: rewritten(f"{CGROUP}/{LIMIT}"),
    "read the kernel's log": lambda: call(103 if X86 else 116, 3, 0, 0),
    "set the clock": clock,
    "raise priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    **({"call by the 32-bit table": old_call} if X86 else {}),
}


def tried(what: Callable[[], object]) -> str:
    """How the try ends, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "ok"
        try:
            what()
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, str(error))
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return f"killed by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else said


if __name__ == "__main__":
    if not os.path.isdir("/run/sandbox"):
        sys.exit("probe_kernel.py tries what a sandbox must not be able to do: run it in one, and nowhere else")
    json.dump({name: tried(what) for name, what in TRIES.items()}, sys.stdout)
