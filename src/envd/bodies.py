"""The body of a request without its Content-Encoding, as a stream. Touches nothing."""

import zlib
from collections.abc import AsyncIterator

from envd.errors import EnvdError, invalid_argument
from envd.web import Request

INFLATE_BYTES = 1024 * 1024  # at most so much comes out of one step, however well the input was compressed


def decoded(request: Request) -> AsyncIterator[bytes]:
    """The body as it was meant; refuses encodings other than gzip with 415."""
    match (request.header("content-encoding") or "identity").strip().lower():
        case "identity":
            return request.stream()
        case "gzip":
            return gunzipped(request.stream())
        case other:
            raise EnvdError("invalid_argument", f"content encoding {other!r} is not supported", status=415)


async def gunzipped(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Inflate gzip members one after the other; raises `invalid_argument` when the body is not gzip or stops early."""
    member = zlib.decompressobj(wbits=31)
    async for data in body:
        while data:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
            try:
                piece = member.decompress(data, INFLATE_BYTES)
                if piece:
                    yield piece
                data = member.unused_data if member.eof else member.unconsumed_tail
                # A full piece may have more behind it that is inside the decompressor and no longer in `data`.
                while not data and not member.eof and len(piece) == INFLATE_BYTES:
                    piece = member.decompress(b"", INFLATE_BYTES)
                    if piece:
                        yield piece
                    data = member.unused_data if member.eof else member.unconsumed_tail
            except zlib.error as error:
                raise invalid_argument(f"body is not valid gzip: {error}") from None
    if not member.eof:
        raise invalid_argument("the gzip body ends before its end marker")
