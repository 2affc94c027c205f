"""A build that has not begun goes from one host to another, with the files that its client has uploaded."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from fleet.nodes import TRUSTED, Answer, Node, Unreachable

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Build:
    """`owner` is its key's name; `files` are digests of what its steps copy."""

    id: str
    template: str
    owner: str
    files: tuple[str, ...]


def files_of(values: dict[str, Any]) -> tuple[str, ...]:
    """The files of the body that begins a build; what is wrong in it is for the host to refuse."""
    steps = values.get("steps")
    found = [one.get("filesHash") for one in steps if isinstance(one, dict)] if isinstance(steps, list) else []
    return tuple(sorted({one for one in found if isinstance(one, str) and DIGEST.fullmatch(one)}))


async def move(build: Build, source: Node, target: Node) -> Answer | None:
    """None when it is there; else the answer of the host that refuses. Raises Unreachable.

    The files go first: what breaks off in the middle can be done again. A build that the target does not take is given
    back.
    """
    for digest in build.files:
        if (refusal := await _carry(digest, source, target)) is not None:
            return refusal
    query = urlencode({"template": build.template, "owner": build.owner})
    path = f"/builds/{quote(build.id, safe='')}"
    given = await source.ask("DELETE", f"{path}?{query}")
    if given.status != 200:
        return given
    try:
        taken = await target.ask("PUT", path, given.json())
    except Unreachable:
        await source.ask("PUT", path, given.json())
        raise
    if taken.status == 204:
        return None
    await source.ask("PUT", path, given.json())
    return taken


async def _carry(digest: str, source: Node, target: Node) -> Answer | None:
    """A file that the source does not have was never uploaded, which the target says better."""
    path = f"/build-files/{digest}"
    found = await source.open(TRUSTED, "GET", path.encode())
    try:
        if found.status_code != 200:
            return None
        sent = [(b"content-length", found.headers["content-length"].encode())]
        kept = await target.open(TRUSTED, "PUT", path.encode(), sent, _pieces(found, source))
        try:
            body = await kept.aread()
        finally:
            await kept.aclose()
    finally:
        await found.aclose()
    return None if kept.status_code == 204 else Answer(kept.status_code, list(kept.headers.raw), body)


async def _pieces(answer: httpx.Response, source: Node) -> AsyncIterator[bytes]:
    """Raises Unreachable for the source, as the host that takes them is not the one that is silent."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx.TransportError as error:
        raise source.silent(repr(error)) from error
