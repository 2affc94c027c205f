"""The seccomp profiles, read as the kernel reads them; how they come from an engine's default; who gets which."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from typing import Any

import pytest

from deploys import confinement
from deploys.loading import load
from tests.plan.process import rendered
from tools import seccomp

NEWUSER, NEWNET, NEWPID, NEWNS, NEWIPC = 0x10000000, 0x40000000, 0x20000000, 0x20000, 0x8000000
CLOEXEC, NONBLOCK = 0o2000000, 0o4000
DEFAULT = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "syscalls": [
        {"names": ["read", "io_uring_setup", "socketcall", "socketpair"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ],
}


def holds(comparison: dict[str, Any], argument: int) -> bool:
    if comparison["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(argument & comparison["value"] == comparison.get("valueTwo", 0))
    assert comparison["op"] == "SCMP_CMP_EQ", "what else compares 64 bits lets more through than it says"
    return bool(argument == comparison["value"])


def verdict(kind: str, name: str, *arguments: int) -> int:
    """0 when the profile allows the call, else the error that the caller gets."""
    profile = json.loads(confinement.seccomp()[kind])
    given = [*arguments, *[0] * (6 - len(arguments))]
    for rule in profile["syscalls"]:
        if name in rule["names"] and all(holds(one, given[one["index"]]) for one in rule.get("args", ())):
            return 0 if rule["action"] == "SCMP_ACT_ALLOW" else int(rule["errnoRet"])
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    return int(profile["defaultErrnoRet"])


BOTH = pytest.mark.parametrize("kind", ["sandbox", "browser"])


@BOTH
@pytest.mark.parametrize(
    "arguments",
    [
        (1, 1 | CLOEXEC, 0),
        (2, 1 | CLOEXEC | NONBLOCK, 6),
        (2, 2, 17),
        (2, 2 | CLOEXEC, 1),
        (10, 1, 0),
        (10, 2, 58),
        (16, 3 | CLOEXEC, 0),
        (16, 3, 4),
        (16, 3, 9),
        (16, 2, 15),
    ],
)
def test_sockets_that_programs_use(kind: str, arguments: tuple[int, int, int]) -> None:
    assert verdict(kind, "socket", *arguments) == 0


@BOTH
@pytest.mark.parametrize(
    "arguments",
    [
        *((family, sort, 0) for family in (0, 3, 9, 15, 17, 20, 21, 29, 30, 31, 38, 40, 43, 44) for sort in (1, 2, 3)),
        *((family, 3 | CLOEXEC, protocol) for family in (2, 10) for protocol in (0, 1, 58, 255)),
        *((family, sort, protocol) for family in (2, 10) for sort in (1, 5) for protocol in (132, 262)),
        (2, 6, 33),
        (2, 2, 115),
        (2, 10, 0),
        (16, 3, 12),
        (16, 3, 6),
        (16, 3, 16),
        (16, 3, 21),
        (17 | 1 << 32, 3, 0),
        (40 | 1 << 63, 1, 0),
    ],
)
def test_sockets_that_nobody_needs(kind: str, arguments: tuple[int, int, int]) -> None:
    assert verdict(kind, "socket", *arguments) == errno.EPERM


@BOTH
def test_calls_that_are_refused(kind: str) -> None:
    names = (
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "keyctl", "add_key", "request_key"),
        *("userfaultfd", "perf_event_open", "mount", "umount2", "move_mount", "open_tree", "fsopen", "pivot_root"),
        *("setns", "kexec_load", "init_module", "finit_module", "delete_module", "open_by_handle_at", "modify_ldt"),
        *("swapon", "reboot", "settimeofday", "clock_settime", "iopl", "ioperm", "acct", "quotactl", "socketcall"),
        *("fanotify_init", "lookup_dcookie", "process_madvise", "pidfd_getfd", "syslog", "sethostname", "vhangup"),
    )
    assert [name for name in names if verdict(kind, name) != errno.EPERM] == []


@BOTH
def test_calls_that_work_goes_on_with(kind: str) -> None:
    names = ("ptrace", "chroot", "process_vm_readv", "seccomp", "landlock_restrict_self", "memfd_create", "fchmodat2")
    assert [name for name in names if verdict(kind, name) != 0] == []
    assert verdict(kind, "clone", 0x11) == verdict(kind, "clone", 0x3D0F00) == 0
    assert verdict(kind, "clone3") == errno.ENOSYS, "glibc then takes clone, whose flags can be read"
    assert verdict(kind, "socketpair", 1, 1) == 0 and verdict(kind, "socketpair", 30, 5) == errno.EPERM


def test_namespaces_are_the_browsers_and_not_all() -> None:
    for flags in (NEWUSER, NEWUSER | NEWNET | NEWPID):
        assert verdict("sandbox", "clone", flags) == verdict("sandbox", "unshare", flags) == errno.EPERM
        assert verdict("browser", "clone", flags | 0x11) == verdict("browser", "unshare", flags) == 0
    for flags in (NEWNS, NEWIPC, NEWUSER | NEWNS):
        for kind in ("sandbox", "browser"):
            assert verdict(kind, "clone", flags) == verdict(kind, "unshare", flags) == errno.EPERM


@BOTH
def test_other_tables_of_calls_are_closed(kind: str) -> None:
    """A program of 32 bits is killed at its first call: no architecture has another one below it."""
    assert [one["subArchitectures"] for one in json.loads(confinement.seccomp()[kind])["archMap"]] == [[], []]


def test_the_profile_is_made_from_an_engines_default() -> None:
    profile = seccomp.derive(DEFAULT)
    plain, clone3, *sockets = profile["syscalls"]
    assert plain == {"names": ["ptrace", "read"], "action": "SCMP_ACT_ALLOW"}
    assert clone3["errnoRet"] == 38 and sockets == list(seccomp.sockets())
    assert json.loads(seccomp.text(profile)) == profile


def test_the_profile_is_as_the_tool_writes_it() -> None:
    text = confinement.PROFILE.read_text()
    assert seccomp.text(json.loads(text)) == text
    assert json.loads(text)["syscalls"][-len(list(seccomp.sockets())) :] == list(seccomp.sockets())


def test_who_gets_which_profile(data: dict[str, Any]) -> None:
    wanted = load(data)
    base, browser = wanted.templates["base"], wanted.templates["playwright"]
    assert confinement.seccomp_path(wanted, base) == "/etc/flourisha-sandbox/seccomp/sandbox.json"
    assert confinement.seccomp_path(wanted, browser) == "/etc/flourisha-sandbox/seccomp/browser.json"
    assert confinement.apparmor_name(wanted, base) == "flourisha-sandbox"
    assert confinement.apparmor_name(wanted, browser) == "flourisha-browser"
    gvisor = replace(base, runtime="runsc")
    assert confinement.seccomp_path(wanted, gvisor) == confinement.apparmor_name(wanted, gvisor) == ""


@pytest.mark.xdist_group("plan")
@pytest.mark.parametrize(("case", "namespaces"), [("apparmor", True), ("apparmor-12", False)])
def test_apparmors_profiles(case: str, namespaces: bool) -> None:
    """Debian 12's AppArmor does not know the rule, and leaves namespaces to others."""
    text = rendered("etc/apparmor.d/project-sandbox", case)
    assert text is not None
    head, sandbox, browser = text.split("\nprofile ")
    assert ("abi <abi/4.0>" in head, "  userns,\n" in browser, "userns" in sandbox) == (namespaces, namespaces, False)
    for name, body in (("flourisha-sandbox", sandbox), ("flourisha-browser", browser)):
        assert body.startswith(f"{name} flags=")
        assert f"signal (send, receive) peer={name},\n" in body and f"peer=*//&{name},\n" in body
        assert "deny mount,\n" in body and "deny network packet,\n" in body
