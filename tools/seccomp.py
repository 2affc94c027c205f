"""The seccomp profile of sandboxes, made from the default of a Docker engine: `python -m tools.seccomp <OCI >PROFILE`.

OCI is the configuration of a container that an engine has started with its default profile and the capabilities of a
sandbox (below /run, `*/ID/config.json`): the engine has resolved there what its default allows such a container.
What is left out, and which sockets are allowed, is said here. `deploys.confinement` makes the browser's profile of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

ALLOW = "SCMP_ACT_ALLOW"
# No 32-bit calls: a second table of the kernel's, in which `socketcall` hides from a filter what socket is wanted.
# A program that makes one is killed.
ARCHITECTURES = [{"architecture": f"SCMP_ARCH_{name}", "subArchitectures": []} for name in ("X86_64", "AARCH64")]

# What the default of some engine allows, and sandboxes are refused.
REMOVED = {
    "io_uring_enter": "many holes of the kernel; Docker 25 and newer refuse it as well",
    "io_uring_register": "as above",
    "io_uring_setup": "as above",
    "modify_ldt": "for 16-bit programs",
    "socketcall": "a 32-bit call, see above",
}

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
STREAM, DGRAM, KIND = 1, 2, 0xF  # of the second argument; beside it are flags
# (family, kind, protocols). No other family (packet, vsock, alg, xdp, tipc, can, bluetooth ...), no raw sockets, no
# protocols for which the kernel would load a module (sctp, dccp, udplite, l2tp).
SOCKETS = (
    (AF_INET, STREAM, (0, 6)),
    (AF_INET, DGRAM, (0, 17, 1)),  # 1 is ICMP for ping: the kernel writes the packets
    (AF_INET6, STREAM, (0, 6)),
    (AF_INET6, DGRAM, (0, 17, 58)),
)
# Addresses and routes, lists of sockets (`ss`), audit (sudo), devices that come and go (libudev). Not netfilter and
# not generic netlink: large parts of the kernel, of use to who has CAP_NET_ADMIN.
NETLINK = (0, 4, 9, 15)


def masked(index: int, value: int, mask: int = 0xFFFFFFFF) -> dict[str, Any]:
    """The argument has that value in the bits of the mask. A filter sees 64 bits, of which the kernel uses 32 for an
    `int`: an argument with more slips through a comparison such as Docker's own for "is not 40"."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def rule(*names: str, args: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"names": list(names), "action": ALLOW} | ({"args": args} if args else {})


def sockets() -> Iterator[dict[str, Any]]:
    """The rules for `socket` and `socketpair`."""
    yield rule("socket", "socketpair", args=[masked(0, AF_UNIX)])
    for family, kind, protocols in SOCKETS:
        for protocol in protocols:
            yield rule("socket", args=[masked(0, family), masked(1, kind, KIND), masked(2, protocol)])
    for protocol in NETLINK:
        yield rule("socket", args=[masked(0, AF_NETLINK), masked(2, protocol)])


def derive(default: dict[str, Any]) -> dict[str, Any]:
    """Our profile, as Docker's API takes it, from `linux.seccomp` of an OCI configuration.

    Rules without arguments become one list of names. Others stay, but for those of sockets.
    """
    ours = {*REMOVED, "socket", "socketpair"}
    plain = {
        name
        for one in default["syscalls"]
        if one["action"] == ALLOW and not one.get("args")
        for name in one["names"]
        if name not in ours
    }
    rest = [
        one
        for one in default["syscalls"]
        if (one["action"] != ALLOW or one.get("args")) and not ours & set(one["names"])
    ]
    return {
        "defaultAction": default["defaultAction"],
        "defaultErrnoRet": 1,
        "archMap": ARCHITECTURES,
        "syscalls": [rule(*sorted(plain)), *rest, *sockets()],
    }


def text(profile: dict[str, Any]) -> str:
    """One rule a line, but for the long list: one name a line."""
    plain, *rest = profile["syscalls"]
    names = ",\n".join(f"      {json.dumps(name)}" for name in plain["names"])
    rules = "".join(f",\n    {json.dumps(one)}" for one in rest)
    head = "".join(f"  {json.dumps(key)}: {json.dumps(profile[key])},\n" for key in profile if key != "syscalls")
    first = f'    {{"names": [\n{names}\n    ], "action": {json.dumps(plain["action"])}}}'
    return f'{{\n{head}  "syscalls": [\n{first}{rules}\n  ]\n}}\n'


if __name__ == "__main__":
    sys.stdout.write(text(derive(json.load(sys.stdin)["linux"]["seccomp"])))
