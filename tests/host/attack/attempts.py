"""What a process might ask of the kernel in order to get out. Runs inside a sandbox; standard library only.

`python3 attempts.py '{"devices": [["b", 8, 0], ...]}'` prints a JSON object: attempt -> `done`, the name of the error,
or `empty` for a file that opens and has nothing in it. Each attempt is one that does no harm where it succeeds: files
are opened for writing and not written, the clock is set to the time that it has, modules have no content. It would
still leave mounts and network settings behind, so it runs nowhere but in a sandbox.
"""

import ctypes
import errno
import fcntl
import glob
import json
import os
import platform
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
# Numbers of system calls: x86_64, aarch64. From 403 on they are the same everywhere.
NUMBERS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "acct": (163, 89),
    "reboot": (169, 142),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "io_uring_setup": (425, 425),
    "mount_setattr": (442, 442),
}
NAMESPACES = {"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
              "pid": 0x20000000, "net": 0x40000000}  # fmt: skip
PTRACE_ATTACH, MS_BIND, SIOCSARP, SIOCSIFFLAGS, SIOCADDRT = 16, 4096, 0x8955, 0x8914, 0x890B
SYSLOG_READ_ALL, KEYCTL_GET_KEYRING_ID, IFF_UP_PROMISC = 3, 0, 0x101
# Written, any of these makes the kernel run a program of the writer's, or stops the machine.
FOR_WRITING = [
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/net/ipv4/ip_forward",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/module/kernel/parameters/panic",
    "/proc/1/oom_score_adj",
    "/run/sandbox/agent.json",
]
FOR_READING = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/port"]
SOCKETS_OF_HOST = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/haproxy/admin.sock",
    "/run/flourisha-sandbox/sandboxd.sock",
    "/run/flourisha-sandbox/gateway.sock",
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
]


def call(name: str, *arguments: Any) -> None:
    """A system call. Raises OSError."""
    number = NUMBERS[name][platform.machine() == "aarch64"]
    ctypes.set_errno(0)
    if LIBC.syscall(ctypes.c_long(number), *(ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments)) == -1:
        raise OSError(ctypes.get_errno(), name)


def in_child(work: Callable[[], Any]) -> None:
    """Does it in a process of its own, since it may change what process this is. Raises the OSError of there."""
    reader, writer = os.pipe()
    if not os.fork():
        number = 0
        try:
            work()
        except OSError as error:
            number = error.errno or errno.EIO
        os.write(writer, struct.pack("i", number))
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 4)
    os.close(reader)
    os.wait()
    number = struct.unpack("i", said)[0] if said else errno.EIO
    if number:
        raise OSError(number, "in the child")


def open_for_writing(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def read_something(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return "done" if file.read(64) else "empty"


def device(kind: str, major: int, minor: int, directory: str) -> None:
    """Makes the node and reads from it."""
    path = f"{directory}/device-{os.getpid()}"
    os.mknod(path, 0o600 | (stat.S_IFBLK if kind == "b" else stat.S_IFCHR), os.makedev(major, minor))
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    finally:
        os.unlink(path)


def raw(family: int, shape: int, protocol: int = 0) -> None:
    socket.socket(family, shape, protocol).close()


def ioctl(number: int, argument: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        fcntl.ioctl(one, number, argument)


def option(level: int, name: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.setsockopt(level, name, 1)


def labelled(name: str, value: bytes) -> None:
    path = f"/code/labelled-{os.getpid()}"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    try:
        os.setxattr(path, name, value)
    finally:
        os.unlink(path)


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def attempts(devices: list[tuple[str, int, int]]) -> dict[str, Callable[[], Any]]:
    route = struct.pack("L16s16s16s", 0, *(struct.pack("HH4s8s", 2, 0, b, b"") for b in (b"\xc6\x12\1\2", b"", b"")))
    found: dict[str, Callable[[], Any]] = {
        "mount a tmpfs": lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, 0),
        "mount proc": lambda: call("mount", b"proc", b"/mnt", b"proc", 0, 0),
        "mount a cgroup": lambda: call("mount", b"cgroup", b"/mnt", b"cgroup", 0, b"memory"),
        "mount cgroup2": lambda: call("mount", b"cgroup2", b"/mnt", b"cgroup2", 0, 0),
        "bind a directory": lambda: call("mount", b"/etc", b"/mnt", 0, MS_BIND, 0),
        "unmount what hides /proc/kcore": lambda: call("umount2", b"/proc/kcore", 2),
        "unmount /run/sandbox": lambda: call("umount2", b"/run/sandbox", 2),
        "pivot_root": lambda: call("pivot_root", b"/", b"/"),
        "open_tree": lambda: call("open_tree", -100, b"/", 1),
        "fsopen": lambda: call("fsopen", b"tmpfs", 0),
        "mount_setattr": lambda: call("mount_setattr", -100, b"/", 0, ctypes.create_string_buffer(32), 32),
        **{
            f"a new namespace: {name}": partial(in_child, partial(call, "unshare", flag))
            for name, flag in NAMESPACES.items()
        },
        "ptrace of PID 1": lambda: call("ptrace", PTRACE_ATTACH, 1, 0, 0),
        "memory of PID 1": lambda: os.close(os.open("/proc/1/mem", os.O_RDWR)),
        "add_key": lambda: call("add_key", b"user", b"attack", b"x", 1, -3),
        "request_key": lambda: call("request_key", b"user", b"attack", 0, -3),
        "keyctl": lambda: call("keyctl", KEYCTL_GET_KEYRING_ID, -3, 1),
        "bpf": lambda: call("bpf", 0, 0, 0),
        "perf_event_open": lambda: call("perf_event_open", 0, 0, -1, -1, 0),
        "userfaultfd": lambda: call("userfaultfd", 1),
        "io_uring": lambda: call("io_uring_setup", 1, ctypes.create_string_buffer(120)),
        "open_by_handle_at": lambda: call("open_by_handle_at", -100, ctypes.create_string_buffer(16), 0),
        "kexec_load": lambda: call("kexec_load", 0, 0, 0, 0),
        "init_module": lambda: call("init_module", 0, 0, b""),
        "finit_module": lambda: call("finit_module", -1, b"", 0),
        "delete_module": lambda: call("delete_module", b"no_such_module", 0),
        "swapon": lambda: call("swapon", b"/code/no-such-file", 0),
        "acct": lambda: call("acct", b"/code/no-such-file"),
        "reboot, in the wrong words": lambda: call("reboot", 1, 2, 3, 0),
        "quotactl": lambda: call("quotactl", 0x80000100, 0, 0, 0),
        "the kernel's log": lambda: call("syslog", SYSLOG_READ_ALL, ctypes.create_string_buffer(100), 100),
        "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "set the host name": lambda: socket.sethostname(socket.gethostname()),
        "nice -20": lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
        "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "file capabilities": lambda: labelled(
            "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 21, 0, 0, 0)
        ),
        "trusted attributes": lambda: labelled("trusted.attack", b"x"),
        "raw packets": lambda: raw(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)),
        "ARP in raw packets": lambda: raw(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0806)),
        "vsock": lambda: raw(40, socket.SOCK_STREAM),
        "XDP": lambda: raw(44, socket.SOCK_RAW),
        "the kernel's ciphers": lambda: raw(38, socket.SOCK_SEQPACKET),
        "raw ICMP": lambda: raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "raw IP": lambda: raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        "raw IPv6": lambda: raw(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        "an ARP entry": lambda: ioctl(
            SIOCSARP,
            struct.pack("HH4s8x", 2, 0, b"\xc6\x12\1\2") + struct.pack("H14s", 1, b"\2" * 6) + bytes(36),
        ),
        "promiscuous": lambda: ioctl(SIOCSIFFLAGS, struct.pack("16sH14x", b"eth0", IFF_UP_PROMISC)),
        "a route": lambda: ioctl(SIOCADDRT, route.ljust(120, b"\0")),
        "transparent sockets": lambda: option(socket.IPPROTO_IP, 19),
        "marked packets": lambda: option(socket.SOL_SOCKET, 36),
    }
    for path in FOR_WRITING:
        found[f"write {path}"] = partial(open_for_writing, path)
    for path in FOR_READING:
        found[f"read {path}"] = partial(read_something, path)
    for path in SOCKETS_OF_HOST:
        found[f"connect to {path}"] = partial(connect, path)
    for name in ("release_agent", "cgroup.procs", "tasks", "devices.allow", "memory.max", "memory.limit_in_bytes"):
        for path in {*glob.glob(f"/sys/fs/cgroup/{name}"), *glob.glob(f"/sys/fs/cgroup/*/{name}")}:
            found[f"write {path}"] = partial(open_for_writing, path)
    for kind, major, minor in devices:
        for directory in ("/code", "/dev", "/tmp"):
            name = f"device {kind} {major}:{minor} in {directory}"
            found[name] = partial(device, kind, major, minor, directory)
    return found


def outcome(work: Callable[[], Any]) -> str:
    try:
        return str(work() or "done")
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def main() -> None:
    if not os.path.isdir("/run/sandbox"):
        sys.exit("this is no sandbox: nothing was tried")
    wanted = json.loads(sys.argv[1])
    print(json.dumps({name: outcome(work) for name, work in attempts(wanted["devices"]).items()}))


if __name__ == "__main__":
    main()
