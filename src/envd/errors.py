"""The one error of this package, and how each of its codes travels over HTTP. Touches nothing."""

from collections.abc import Mapping

HTTP_STATUS: Mapping[str, int] = {  # code of the Connect protocol -> HTTP status of a unary answer
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "unauthenticated": 401,
}


class EnvdError(Exception):
    """Something that the caller is told, either as {"code": <code>, ...} (RPC) or {"code": <status>, ...} (REST)."""

    def __init__(
        self, code: str, message: str, *, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or HTTP_STATUS[code]
        self.headers = dict(headers or {})


class ClientDisconnected(EnvdError):
    """The client went away: there is nobody to answer any more."""

    def __init__(self) -> None:
        super().__init__("canceled", "client disconnected")


def not_found(message: str) -> EnvdError:
    return EnvdError("not_found", message)


def invalid_argument(message: str) -> EnvdError:
    return EnvdError("invalid_argument", message)


def unauthenticated(message: str) -> EnvdError:
    return EnvdError("unauthenticated", message)


def no_space() -> EnvdError:
    return EnvdError("resource_exhausted", "not enough disk space available", status=507)
