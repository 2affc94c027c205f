"""An internet of our own: runs on the host, in a network namespace, and writes down every IPv4 packet that arrives.

Each line of its file is `protocol address port`. All ports of TCP and UDP answer `pong`; who says `stream` gets more
and more, until it goes away. Standard library only, as it runs there.
"""

import contextlib
import socket
import sys
import threading
import time

PORT = 7777  # where the packets of all ports are redirected to
EVERY_S = 0.02
NAMES = {6: "tcp", 17: "udp", 1: "icmp"}


def sniff(file: str) -> None:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with open(file, "w", buffering=1) as log:
        print("ready", file=log)
        while True:
            packet, (_, _, kind, *_) = packets.recvfrom(65535)
            if kind == socket.PACKET_OUTGOING:
                continue
            head = (packet[0] & 15) * 4
            port = int.from_bytes(packet[head + 2 : head + 4], "big") if packet[9] in (6, 17) else 0
            print(NAMES.get(packet[9], packet[9]), socket.inet_ntoa(packet[16:20]), port, file=log)


def answer(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        if connection.recv(100) == b"stream":
            while True:
                connection.sendall(b"x")
                time.sleep(EVERY_S)
        connection.sendall(b"pong")


def serve_tcp() -> None:
    listener = socket.create_server(("0.0.0.0", PORT))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def serve_udp() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", PORT))
    while True:
        text, peer = server.recvfrom(1000)
        if text == b"stream":
            threading.Thread(target=stream_udp, args=(server, peer), daemon=True).start()
        else:
            with contextlib.suppress(OSError):
                server.sendto(b"pong", peer)


def stream_udp(server: socket.socket, peer: tuple[str, int]) -> None:
    """Goes on whatever becomes of the peer: a server on the internet does not know that it is cut off."""
    while True:
        with contextlib.suppress(OSError):
            server.sendto(b"x", peer)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    for work in (serve_tcp, serve_udp):
        threading.Thread(target=work, daemon=True).start()
    sniff(sys.argv[1])
