"""Tells when somebody removes packet rules of the host: the kernel says so to whoever listens, as `nft monitor` does.

Opens one socket; changes nothing.
"""

import errno
import socket
import struct
from collections.abc import Iterator

NETLINK_NETFILTER = 12
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
GROUP_NFTABLES = 7
SUBSYSTEM = 10  # of nftables, in the upper byte of a message's type; these are the lower: NFT_MSG_DEL*
REMOVALS = {2, 5, 8, 11, 14}  # table, chain, rule, set, element of a set
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
LARGEST = 65536


def changes(table: str) -> Iterator[None]:
    """Yields at its start, and after each removal of something in that table of ours, for as long as somebody listens.

    Removals that follow each other closely may be told as one. Raises OSError.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as channel:
        channel.bind((0, 0))
        channel.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP_NFTABLES)
        yield  # what happened before
        while True:
            try:
                told = removes(channel.recv(LARGEST), table)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more was told than the kernel keeps for us: something of it is lost
                    raise
                told = True
            if told:
                yield


def removes(messages: bytes, table: str) -> bool:
    """Whether any of these netlink messages is about a removal in that table, whose name is the first attribute."""
    name = table.encode() + b"\0"
    at = 0
    while at + HEADER.size <= len(messages):
        length, kind, *_ = HEADER.unpack_from(messages, at)
        if length < HEADER.size:
            return False
        if kind >> 8 == SUBSYSTEM and kind & 0xFF in REMOVALS and name in messages[at : at + length]:
            return True
        at += (length + 3) & ~3
    return False
