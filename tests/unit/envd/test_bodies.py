import asyncio
import gzip
import os
from collections.abc import AsyncIterator

import pytest

from envd.bodies import INFLATE_BYTES, gunzipped
from envd.errors import EnvdError


def gunzip(data: bytes, size: int) -> list[bytes]:
    async def body() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    async def collect() -> list[bytes]:
        return [piece async for piece in gunzipped(body())]

    return asyncio.run(collect())


@pytest.mark.parametrize("size", [1, 1000, 10_000_000])
def test_gzip_members_are_inflated_one_after_the_other(size: int) -> None:
    content = os.urandom(3000)
    assert b"".join(gunzip(gzip.compress(content) + gzip.compress(b"end"), size)) == content + b"end"


def test_a_bomb_comes_out_in_pieces() -> None:
    pieces = gunzip(gzip.compress(bytes(20 * INFLATE_BYTES + 5)), 10_000_000)
    assert sum(map(len, pieces)) == 20 * INFLATE_BYTES + 5
    assert max(map(len, pieces)) <= INFLATE_BYTES


def test_broken_and_cut_bodies_are_noticed() -> None:
    with pytest.raises(EnvdError, match="not valid gzip"):
        gunzip(b"hello", 10)
    with pytest.raises(EnvdError, match="ends before its end marker"):
        gunzip(gzip.compress(b"hello")[:-3], 10)
    with pytest.raises(EnvdError, match="ends before its end marker"):
        gunzip(b"", 10)
