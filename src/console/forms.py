"""What a page's form sends: read within limits, and believed only with the session's token."""

import asyncio
import hmac
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from console.errors import Refused

MAX_BYTES, MAX_FIELDS, BODY_S = 16 * 1024, 50, 10.0
OLD = "This page is of another session. Load it again, and repeat what you did."


async def fields(request: Request) -> dict[str, str]:
    """The fields of an urlencoded form; of several with one name the last. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refused(415, "A form of this console sends application/x-www-form-urlencoded.")
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BYTES:
                    raise Refused(413, f"The form has more than {MAX_BYTES} bytes.")
    except TimeoutError:
        raise Refused(408, f"The form was not complete within {BODY_S:.0f} s.") from None
    except ClientDisconnect:
        raise Refused(400, "The form was not complete.") from None
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:  # no UTF-8, or too many fields
        raise Refused(400, "The form cannot be read: it is no UTF-8, or has too many fields.") from None
    if any("\0" in value for _, value in pairs):
        raise Refused(400, "The form has a NUL character in it.")
    return dict(pairs)


def check_token(found: dict[str, str], token: str) -> None:
    """Raises Refused for a form that is not of this session."""
    if not hmac.compare_digest(found.get("token", "").encode(), token.encode()):
        raise Refused(403, OLD)
