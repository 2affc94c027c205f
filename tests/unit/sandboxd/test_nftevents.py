"""What the kernel tells of removed rules: as nfnetlink writes it."""

import sys

import pytest

from sandboxd import nftevents

DELETE_TABLE, NEW_RULE, DELETE_RULE = (10 << 8) | 2, (10 << 8) | 6, (10 << 8) | 8


def message(kind: int, table: str) -> bytes:
    """With the header of nfnetlink, and the table's name as its first attribute."""
    name = table.encode() + b"\0"
    attribute = (len(name) + 4).to_bytes(2, sys.byteorder) + (1).to_bytes(2, sys.byteorder) + name
    content = b"\1\0\0\0" + attribute
    content += b"\0" * (-len(content) % 4)
    return nftevents.HEADER.pack(nftevents.HEADER.size + len(content), kind, 0, 1, 0) + content


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (message(DELETE_TABLE, "acme-policies"), True),
        (message(DELETE_RULE, "acme-policies"), True),
        (message(NEW_RULE, "acme-policies"), False),
        (message(DELETE_TABLE, "filter"), False),
        (message(DELETE_TABLE, "acme-policies2"), False),
        (message(NEW_RULE, "acme-policies") + message(DELETE_TABLE, "acme-policies"), True),
        (message(DELETE_TABLE, "filter") + message(NEW_RULE, "acme-policies"), False),
        (b"", False),
        (b"\0" * 64, False),
        (message(DELETE_TABLE, "acme-policies")[:10], False),
    ],
)
def test_what_counts_as_a_removal(messages: bytes, told: bool) -> None:
    assert nftevents.removes(messages, "acme-policies") is told


@pytest.mark.parametrize("kind", [2, 5, 8, 11, 14])
def test_every_kind_of_removal(kind: int) -> None:
    assert nftevents.removes(message((10 << 8) | kind, "t"), "t") and not nftevents.removes(message(kind, "t"), "t")
