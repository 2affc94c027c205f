"""The names that E2B's client asks for in a measurement, and the program that runs in its environment."""

import socket
import struct
from pathlib import Path

import pytest

from tools.bench.host import sdk


def question(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">6H", 77, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def test_every_name_is_this_host() -> None:
    asked = question("49983-abc.example.com")
    said = sdk.answer(asked)
    assert struct.unpack(">6H", said[:12]) == (77, 0x8180, 1, 1, 0, 0)
    assert said[12 : len(asked)] == asked[12:]
    assert socket.inet_ntoa(said[-4:]) == "127.0.0.1"


def test_there_are_no_other_addresses() -> None:
    said = sdk.answer(question("example.com", kind=28) + b"what else a client adds")
    assert struct.unpack(">6H", said[:12]) == (77, 0x8180, 1, 0, 0, 0)
    assert said.endswith(b"\0\0\x1c\0\x01")


def test_the_server_answers_while_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    bind = socket.socket.bind

    def ours(self: socket.socket, _: object) -> None:
        bind(self, ("127.0.0.1", 0))
        seen.append(self.getsockname())

    monkeypatch.setattr(socket.socket, "bind", ours)
    with sdk.names_of_this_host(str(tmp_path)):
        assert (tmp_path / "resolv.conf").read_text() == "nameserver 127.0.0.54\n"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.sendto(question("a.example.com"), seen[0])
            assert client.recv(512).endswith(b"\x7f\0\0\x01")


def test_the_program_is_found() -> None:
    assert b"from e2b import Sandbox" in sdk.source()
