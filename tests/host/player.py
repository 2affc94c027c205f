"""A server that answers as a test tells it to, byte for byte. It runs inside a sandbox, from its source alone.

`python3 player.py NAME PORT ADDRESS`. A request of `/play/<steps>` is answered by these steps, each a list, and then
the next request on the connection is read. Texts are Latin-1: a character is a byte.

* `send TEXT`; `repeat TEXT COUNT`; `wait SECONDS`; `until NAME`, which a request of `/let/NAME` ends; `hold`, until the
  other side goes; `close`; `reset`
* `stream BYTES`: so many bytes of a sequence that does not compress
* `take`: the body is read. Without this step, they take no look at it.

Nor does `/careless`. `/digest` is answered by the length and the SHA-256 of the body,
`/seen` by the heads that came on each connection, `/socket` by a WebSocket that sends everything back; whatever else by
what was asked.
"""

import asyncio
import base64
import hashlib
import json
import random
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

NAME = sys.argv[1] if len(sys.argv) > 1 else ""
PIECE = 1 << 20
CLOSE, PING, PONG = 8, 9, 10
signals: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
# The heads that each connection brought, in the order in which they came, but for those that ask for them.
seen: list[bytearray] = []


def pieces(size: int) -> Iterator[bytes]:
    """Random bytes, of which each mebibyte begins with its number: one that is lost or doubled shows in a digest."""
    noise = random.Random(1).randbytes(PIECE)
    for start in range(0, size, PIECE):
        yield (start.to_bytes(8, "big") + noise[8:])[: size - start]


async def body_of(reader: asyncio.StreamReader, names: dict[str, str]) -> AsyncIterator[bytes]:
    """The body of a request, piece by piece."""
    if "transfer-encoding" in names:
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            yield (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    left = int(names.get("content-length", 0)) if "transfer-encoding" not in names else 0
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: bytearray
) -> tuple[str, list[list[str]], bytes]:
    """The first line, the header lines and the body (of `/digest`: what it is) of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = [[part.strip() for part in line.split(":", 1)] for line in lines]
    names = {name.lower(): value for name, value in headers}
    target, body = first.split()[1], b""
    if target != "/seen":
        log += head
    if target == "/digest":
        digest, size = hashlib.sha256(), 0
        if "expect" in names:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for piece in body_of(reader, names):
            digest.update(piece)
            size += len(piece)
        body = f"{size} {digest.hexdigest()}".encode()
    elif target != "/careless" and not target.startswith("/play/"):
        body = b"".join([piece async for piece in body_of(reader, names)])
    return first, headers, body


async def play(
    steps: list[list[Any]], headers: list[list[str]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Does the steps. Whether the connection goes on."""
    for step, *arguments in steps:
        if step == "send":
            writer.write(arguments[0].encode("latin-1"))
        elif step == "repeat":
            for _ in range(arguments[1]):
                writer.write(arguments[0].encode("latin-1"))
                await writer.drain()
        elif step == "wait":
            await asyncio.sleep(arguments[0])
        elif step == "until":
            await signals[arguments[0]].wait()
        elif step == "stream":
            for piece in pieces(arguments[0]):
                writer.write(piece)
                await writer.drain()
        elif step == "take":
            async for _ in body_of(reader, {name.lower(): value for name, value in headers}):
                pass
        elif step == "hold":
            await reader.read()
        elif step == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        else:
            return False
        await writer.drain()
    return True


async def echo(key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A WebSocket (RFC 6455) until it is closed, with the code that the other side gave."""
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    writer.write(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while True:
        first, size = await reader.readexactly(2)
        size &= 0x7F
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask, data = await reader.readexactly(4), await reader.readexactly(size)
        whole = (mask * (size // 4 + 1))[:size]
        data = (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")
        if first & 0x0F == PING:
            first += PONG - PING
        short = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size & 0xFFFF)
        writer.write(bytes([first]) + (short if size < 65536 else b"\x7f" + struct.pack(">Q", size)) + data)
        await writer.drain()
        if first & 0x0F == CLOSE:
            return


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    log = bytearray()
    seen.append(log)
    try:
        while True:
            first, headers, body = await request(reader, writer, log)
            method, target = first.split()[:2]
            if target.startswith("/play/"):
                wanted = json.loads(base64.urlsafe_b64decode(target.split("/")[2]))
                if not await play(wanted, headers, reader, writer):
                    break
                continue
            if target == "/socket":
                await echo({name.lower(): value for name, value in headers}["sec-websocket-key"], reader, writer)
                break
            if target.startswith("/let/"):
                signals[target.split("/")[2]].set()
            answer: Any = {"who": NAME, "first": first, "headers": headers, "body": body.decode("latin-1")}
            if target == "/seen":
                answer = [one.decode("latin-1") for one in seen if one]
            text = json.dumps(answer).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
            writer.write(head.encode() + (b"" if method == "HEAD" else text))
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, sys.argv[3], int(sys.argv[2]), limit=4_000_000, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
