"""A server that answers as a test tells it to, byte for byte. It runs inside a sandbox, from its source alone.

`python3 player.py NAME PORT ADDRESS`. A request of `/play/<steps>` is answered by these steps, each a list: `send TEXT`,
`repeat TEXT COUNT`, `wait SECONDS`, `after TEXT` (send it when the next request has begun), `hold` (say nothing until the
other side goes), `close` and `reset`; then the next request on the connection is read. `/careless` is answered without
a look at the body. `/seen` tells what came on each connection; whatever else is answered by what was asked. Texts are
Latin-1: a character is a byte.
"""

import asyncio
import base64
import json
import socket
import struct
import sys
from typing import Any

NAME = sys.argv[1] if len(sys.argv) > 1 else ""
# All that each connection brought, in the order in which they came, without the requests for it.
seen: list[bytearray] = []


async def request(reader: asyncio.StreamReader, log: bytearray) -> tuple[str, list[list[str]], bytes]:
    """The target, the header lines and the body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = [[part.strip() for part in line.split(":", 1)] for line in lines]
    names = {name.lower(): value for name, value in headers}
    body = b""
    if first.split()[1] != "/seen":
        log += head
    if first.split()[1] == "/careless":
        pass
    elif "transfer-encoding" in names:
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            body += (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif "content-length" in names:
        body = await reader.readexactly(int(names["content-length"]))
    log += body
    return first, headers, body


async def play(steps: list[list[Any]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
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
        elif step == "after":
            writer.write(arguments[0].encode("latin-1") if await reader.read(1) else b"")
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


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    log = bytearray()
    seen.append(log)
    try:
        while True:
            first, headers, body = await request(reader, log)
            method, target = first.split()[:2]
            if target.startswith("/play/"):
                if not await play(json.loads(base64.urlsafe_b64decode(target.split("/")[2])), reader, writer):
                    break
                continue
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
