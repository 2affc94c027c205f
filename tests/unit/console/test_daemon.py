"""The client of sandboxd's Unix socket."""

import asyncio
from contextlib import suppress

import pytest
import uvicorn

from console import daemon
from console.daemon import Daemon
from tests.unit.sandboxd.conftest import short_directory


def connections(path: str) -> int:
    """How many are made for two requests, one after the other, to whoever would keep the first one."""

    async def run() -> int:
        came = list[asyncio.StreamWriter]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(writer)
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        client = Daemon(path)
        for _ in range(2):
            assert await client.get("/health") == {}
        await client.close()
        server.close()
        return len(came)

    return asyncio.run(run())


def test_a_quiet_connection_is_left_before_sandboxd_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a page asks every 5 s: what is written into one that is being closed is heard by nobody."""
    assert uvicorn.Config("", log_config=None).timeout_keep_alive > daemon.KEPT_S
    with short_directory() as directory:
        assert connections(f"{directory}/one.sock") == 1
        monkeypatch.setattr(daemon, "KEPT_S", -1.0)
        assert connections(f"{directory}/other.sock") == 2
