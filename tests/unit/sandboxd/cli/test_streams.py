"""The content of a file, to and from the real agent, and what happens when that breaks off or refuses."""

import os
from pathlib import Path

import pytest

from sandboxd.cli import streams
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.exits import CliError
from tests.unit.sandboxd.cli.doubles import Relay


def test_there_and_back(client: Agent, remote: Path) -> None:
    pieces = [b"one", b"", os.urandom(700_000), b"end"]
    written = streams.write(client, f"{remote}/made/up", pieces)
    assert written["path"] == f"{remote}/made/up" and (remote / "made/up").read_bytes() == b"".join(pieces)
    read = list(streams.read(client, f"{remote}/made/up"))
    assert b"".join(read) == b"".join(pieces) and max(map(len, read)) <= streams.PIECE_BYTES


def test_nothing_is_a_file_too(client: Agent, remote: Path) -> None:
    streams.write(client, f"{remote}/empty", [])
    assert (remote / "empty").read_bytes() == b"" and list(streams.read(client, f"{remote}/empty")) == []


def test_refusals_are_the_agents(client: Agent, remote: Path) -> None:
    with pytest.raises(AgentError) as caught:
        list(streams.read(client, f"{remote}/none"))
    assert caught.value.status == 404 and f"{remote}/none" in str(caught.value)
    with pytest.raises(AgentError) as caught:
        streams.write(client, str(remote), [b"x"] * 100)
    assert caught.value.status == 400 and "is a directory" in str(caught.value)


def test_what_breaks_off_is_an_error(relay: Relay, relayed: Agent, remote: Path) -> None:
    (remote / "f").write_bytes(bytes(900_000))
    relay.limit = 500_000
    got = 0
    with pytest.raises(CliError, match="broke"):
        for piece in streams.read(relayed, f"{remote}/f"):
            got += len(piece)
    assert 0 < got < 900_000
    relay.limit = 0
    with pytest.raises(CliError, match="broke"):
        streams.write(relayed, f"{remote}/g", [b"x"])


def test_pieces_come_as_they_are_written() -> None:
    reader, writer = os.pipe()
    pieces = streams.pieces_of(reader)
    for said in (b"a", b"bc"):
        os.write(writer, said)
        assert next(pieces) == said
    os.close(writer)
    assert list(pieces) == []
    os.close(reader)
