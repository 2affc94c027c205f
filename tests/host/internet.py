"""Servers of an internet of our own: names, TLS and HTTP, on all addresses of the network namespace that it runs in.

Every name has the address FIRST, but for one with a label like `ip-10-77-0-2`, which leads there, and one with the
label `nowhere`. What is asked for is written down. TLS and HTTP answer with the name that they were asked for and the
address that was dialled; the path /stream has no end. Standard library only, as it runs there.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import sys
import threading
import time

HOME, FIRST = sys.argv[1:]
NAMES, HTTP, TLS = 5353, 8080, 8443
EVERY_S = 0.05


def serve_names() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", NAMES))
    with open(f"{HOME}/asked", "w", buffering=1) as log:
        print("ready", file=log)
        while True:
            question, peer = server.recvfrom(2000)
            at, labels = 12, list[str]()
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode("latin-1").lower())
                at += 1 + question[at]
            kind, end = int.from_bytes(question[at + 1 : at + 3], "big"), at + 5
            print(kind, ".".join(labels), file=log)
            led = [re.fullmatch(r"ip-(\d+)-(\d+)-(\d+)-(\d+)", label) for label in labels]
            address = next((".".join(one.groups()) for one in led if one), FIRST)
            known = kind == 1 and "nowhere" not in labels
            head = question[:2] + b"\x81\x80" + b"\0\1" + (b"\0\1" if known else b"\0\0") + b"\0\0\0\0"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(address) if known else b""
            server.sendto(head + question[12:end] + answer, peer)


def answer(connection: socket.socket, secret: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), connection:
        told = ""

        def named(_: object, name: str | None, __: object) -> None:
            nonlocal told
            told = name or ""

        stream = connection
        if secret:
            secret.sni_callback = named
            stream = secret.wrap_socket(connection, server_side=True)
        with stream:
            while head := read(stream):
                name = told or re.search(r"(?im)^host: *(\S+)", head)[1]  # type: ignore[index]
                if head.startswith("GET /stream "):
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                    while True:
                        stream.sendall(b"x" * 100)
                        time.sleep(EVERY_S)
                text = f"{name} at {stream.getsockname()[0]}\n"
                stream.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


def read(stream: socket.socket) -> str:
    """The head of a request, empty at the end."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = stream.recv(1000)
        if not more:
            return ""
        head += more
    return head.decode("latin-1")


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{HOME}/internet.pem")
    return made


def serve(port: int, secret: bool) -> None:
    listener = socket.create_server(("0.0.0.0", port), backlog=100)
    while True:
        connection, _ = listener.accept()
        made = context() if secret else None
        threading.Thread(target=answer, args=(connection, made), daemon=True).start()


if __name__ == "__main__":
    for port, secret in ((HTTP, False), (TLS, True)):
        threading.Thread(target=serve, args=(port, secret), daemon=True).start()
    serve_names()
