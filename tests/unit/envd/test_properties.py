"""What parses a client's bytes: whatever comes, it is the value that was meant or the error that is documented."""

import asyncio
import base64
import gzip
import json
import os
import struct
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envd import fields
from envd.auth import basic_user, check_token_or_signature, file_signature
from envd.bodies import gunzipped
from envd.codec import JSON
from envd.config import AgentConfig
from envd.downloads import content_type, disposition
from envd.envelopes import FLAG_COMPRESSED, FLAG_END, EnvelopeReader, envelope
from envd.errors import EnvdError
from envd.multipart import Data, Event, MultipartParser, Part, PartEnd, boundary_of
from envd.process_service import _command
from envd.ranges import check_encoding, last_modified, wanted_span
from envd.users import User, expand_path
from envd.web import MAX_MESSAGE_BYTES, Message, Request
from tests.unit.envd.test_multipart import merged
from tests.unit.properties import always_the_same, anything, cut, json_values

SOMEBODY = User("somebody", 1000, 1000, (1000,), "/home/somebody")
CONFIG = AgentConfig(access_token="secret")
# What a browser sends between the quotes of a file name.
ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}


async def nothing() -> Message:
    return {"type": "http.disconnect"}


def request(method: str = "GET", query: bytes = b"", **headers: bytes) -> Request:
    pairs = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return Request({"method": method, "path": "/files", "query_string": query, "headers": pairs}, nothing)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Messages, and a stream of them with ends of stream between."""
    payloads = draw(st.lists(st.binary(max_size=60), max_size=5))
    ends = draw(st.lists(st.booleans(), min_size=6, max_size=6))
    pieces = [
        envelope(one) + (envelope(b"{}", FLAG_END) if end else b"") for one, end in zip(payloads, ends, strict=False)
    ]
    return payloads, b"".join(pieces)


@always_the_same
@given(streams(), st.data())
def test_envelopes_survive_any_cutting(stream: tuple[list[bytes], bytes], data: st.DataObject) -> None:
    payloads, whole = stream
    reader = EnvelopeReader()
    assert [one for piece in data.draw(cut(whole)) for one in reader.feed(piece)] == payloads
    reader.close()


@always_the_same
@given(streams().filter(lambda stream: bool(stream[0])), st.data())
def test_a_stream_that_stops_early_gives_what_was_whole_and_an_error(
    stream: tuple[list[bytes], bytes], data: st.DataObject
) -> None:
    payloads, whole = stream
    reader = EnvelopeReader()
    found = reader.feed(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert found == payloads[: len(found)]
    if len(found) < len(payloads):
        try:
            reader.close()
        except EnvdError as error:
            assert error.code == "invalid_argument"


@always_the_same
@given(st.binary(max_size=200), st.data())
@example(struct.pack(">BI", 0, MAX_MESSAGE_BYTES + 1), None)
@example(struct.pack(">BI", FLAG_COMPRESSED, 1) + b"x", None)
def test_any_bytes_are_envelopes_or_one_of_three_errors(garbage: bytes, data: st.DataObject | None) -> None:
    reader = EnvelopeReader()
    try:
        for piece in data.draw(cut(garbage)) if data else [garbage]:
            reader.feed(piece)
        reader.close()
    except EnvdError as error:
        assert error.code in ("unimplemented", "resource_exhausted", "invalid_argument")


@always_the_same
@given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"a":' * 980 + b"1" + b"}" * 980)
@example(b'{"pid":' + b"9" * 5000 + b"}")
def test_a_message_is_an_object_or_invalid(payload: bytes) -> None:
    try:
        assert isinstance(JSON.decode("x", payload), dict)
    except EnvdError as error:
        assert error.code == "invalid_argument"


READERS = [
    fields.text, fields.boolean, fields.nested, fields.integer, fields.data, fields.text_list, fields.text_map,
]  # fmt: skip


@always_the_same
@given(json_values)
@pytest.mark.parametrize("read", READERS)
def test_a_field_is_of_its_type_or_named(read: Any, value: object) -> None:
    try:
        read({"someField": value}, "someField")
    except EnvdError as error:
        assert error.code == "invalid_argument" and "'someField'" in error.message and len(error.message) < 200


@always_the_same
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "process": st.fixed_dictionaries({}, optional=dict.fromkeys(("cmd", "args", "envs", "cwd"), json_values))
            | json_values,
            "pty": json_values | st.fixed_dictionaries({"size": st.fixed_dictionaries({"cols": json_values})}),
            "stdin": json_values,
        },
    )
)
def test_a_command_is_one_or_invalid(message: dict[str, Any]) -> None:
    try:
        assert _command(message).cmd
    except EnvdError as error:
        assert error.code == "invalid_argument"


@always_the_same
@given(anything | st.binary(max_size=40).map(os.fsdecode), st.sampled_from(["/code", ""]))
def test_a_path_is_absolute_normal_and_can_be_asked_for(path: str, workdir: str) -> None:
    try:
        expanded = expand_path(path, SOMEBODY, workdir)
    except EnvdError as error:
        assert error.code == "invalid_argument" and error.message.isprintable()
        return
    assert expanded.startswith("/") and ".." not in expanded.split("/") and "." not in expanded.split("/")
    assert expand_path(expanded, SOMEBODY, workdir) == expanded
    assert b"\0" not in os.fsencode(expanded)


@always_the_same
@given(st.binary(max_size=60))
@example(b"%ff%zz%")
def test_a_path_of_any_bytes_comes_through_a_query(name: bytes) -> None:
    query = f"path={quote_from_bytes(name)}&path=second".encode()
    assert os.fsencode(request(query=query).query["path"]) == name


@always_the_same
@given(st.binary(max_size=100))
def test_any_query_is_read(query: bytes) -> None:
    assert all(isinstance(value, str) for value in request(query=query).query.values())


@always_the_same
@given(st.lists(st.tuples(anything, st.binary(max_size=80)), max_size=4), st.data())
def test_a_form_of_a_browser_survives_any_cutting(files: list[tuple[str, bytes]], data: st.DataObject) -> None:
    """A backslash is left out: browsers and Python's httpx do not agree on it."""
    boundary = "----WebKitFormBoundary7MA4YWxk"
    names = [name.encode(errors="replace").decode().replace("\\", "/") for name, _ in files]
    names = [name.replace("%22", "").replace("%0D", "").replace("%0A", "") for name in names]
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="'.encode()
        + "".join(ESCAPES.get(c, c) for c in name).encode()
        + b'"\r\nContent-Type: text/plain\r\n\r\n'
        + content
        + b"\r\n"
        for name, (_, content) in zip(names, files, strict=True)
    ]
    parser = MultipartParser(boundary_of(f"multipart/form-data; boundary={boundary}"))
    whole = b"".join(parts) + f"--{boundary}--\r\n".encode()
    events = merged([event for piece in data.draw(cut(whole)) for event in parser.feed(piece)])
    parser.close()
    expected = [
        event
        for name, (_, content) in zip(names, files, strict=True)
        for event in (Part("file", name), *([Data(content)] if content else []), PartEnd())
    ]
    assert events == expected


@always_the_same
@given(
    st.lists(
        st.sampled_from([b"--B", b"\r\n", b"--", b"\r", b"\n", b"Content-Disposition", b": form-data; ", b'name="'])
        | st.binary(max_size=20),
        max_size=12,
    ).map(b"".join),
    st.data(),
)
def test_any_bytes_are_a_form_or_invalid_however_they_are_cut(garbage: bytes, data: st.DataObject) -> None:
    def parsed(pieces: list[bytes]) -> list[Event] | str:
        parser = MultipartParser(b"B")
        try:
            events = merged([event for piece in pieces for event in parser.feed(piece)])
            parser.close()
        except EnvdError as error:
            assert error.code == "invalid_argument"
            return error.message
        return events

    assert parsed(data.draw(cut(garbage))) == parsed([garbage])


@always_the_same
@given(st.binary(max_size=80).map(lambda raw: raw.decode("latin-1")))
@example("multipart/form-data; boundary=")
@example("multipart/form-data" + ';a="' * 5000)
def test_a_boundary_is_found_or_missed(header: str) -> None:
    try:
        assert boundary_of(header)
    except EnvdError as error:
        assert error.code == "invalid_argument"


@always_the_same
@given(
    st.one_of(
        st.binary(max_size=40).map(lambda raw: "bytes=" + raw.decode("latin-1")),
        st.lists(st.just("") | st.integers(0, 2**80).map(str), max_size=3).map(lambda ends: "bytes=" + "-".join(ends)),
        st.sampled_from(["bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000, "bytes=-" + "0" * 5000 + "1"]),
    ),
    st.integers(0, 2**62),
    st.floats(-1e19, 1e19),
)
def test_a_range_is_within_the_file(header: str, size: int, mtime_s: float) -> None:
    try:
        span = wanted_span(header, last_modified(mtime_s), size, mtime_s)
    except EnvdError as error:
        assert error.status == 416
        return
    assert span is None or (span.length >= 1 and span.start >= 0 and span.start + span.length <= size)


@always_the_same
@given(st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_an_encoding_is_accepted_or_not(header: str) -> None:
    try:
        check_encoding(header)
    except EnvdError as error:
        assert error.status == 406


async def collected(pieces: list[bytes]) -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return b"".join([piece async for piece in gunzipped(body())])


@always_the_same
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3), st.data())
def test_gzip_survives_any_cutting(members: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(gzip.compress(member) for member in members)
    assert asyncio.run(collected(data.draw(cut(whole)))) == b"".join(members)


@always_the_same
@given(st.binary(max_size=60), st.integers(0, 40), st.data())
def test_damaged_gzip_is_invalid_or_read(garbage: bytes, kept: int, data: st.DataObject) -> None:
    whole = gzip.compress(b"a text to be damaged")[:kept] + garbage
    try:
        asyncio.run(collected(data.draw(cut(whole))))
    except EnvdError as error:
        assert error.code == "invalid_argument"


@always_the_same
@given(
    st.binary(max_size=30),
    st.binary(max_size=10),
    st.none() | st.binary(max_size=12) | st.sampled_from([b"9" * 5000, b"1", b"99999999999", "٣".encode()]),
    st.none() | st.binary(max_size=12),
)
def test_a_signature_opens_or_is_refused(
    path: bytes, username: bytes, expires: bytes | None, forged: bytes | None
) -> None:
    query = f"path={quote_from_bytes(path)}&username={quote_from_bytes(username)}"
    query += "" if expires is None else f"&signature_expiration={quote_from_bytes(expires)}"
    texts = [os.fsdecode(path), os.fsdecode(username)]
    made = file_signature(*_both(texts), "secret", None if expires is None else os.fsdecode(expires))
    query += f"&signature={quote_from_bytes(made.encode() if forged is None else forged)}"
    asked = request(query=query.encode())
    try:
        check_token_or_signature(asked, CONFIG)
    except EnvdError as error:
        assert error.status == 401
        assert forged is not None or expires not in (None, b"99999999999")
    else:
        assert forged is None and (expires is None or expires.isdigit())


def _both(texts: list[str]) -> tuple[str, str, str]:
    return texts[0], "read", texts[1]


@always_the_same
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_credentials_name_a_user_or_are_refused(name: bytes, value: bytes) -> None:
    assert basic_user(request(authorization=b"Basic " + base64.b64encode(b"root:"))) == "root"
    for header in (b"Basic " + base64.b64encode(name), b"Basic " + value, value):
        try:
            basic_user(request(authorization=header))
        except EnvdError as error:
            assert error.status == 401


@always_the_same
@given(st.binary(max_size=40).map(os.fsdecode))
@example('a"\r\nX-Evil: 1')
@example("data:text/html\r\nX-Evil: 1,x")
def test_no_name_of_a_file_breaks_out_of_its_header(name: str) -> None:
    for value in (disposition(name), content_type("/" + name)):
        assert value.isascii() and value.isprintable()
    assert disposition(name).count('"') == 2
