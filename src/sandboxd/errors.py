"""What can go wrong, as types. Every message says what was wrong, with the value, and what to do about it.

`status` is the HTTP status that `api` answers with; `retry_after_s` becomes the Retry-After header of a 503.
"""


class SandboxdError(Exception):
    """Base of every error that this package raises on purpose."""

    status = 500
    retry_after_s: int | None = None


class ConfigError(SandboxdError):
    """The configuration file or a secret is missing or wrong. The daemon does not start."""


class LedgerError(SandboxdError):
    """The ledger refuses: a transition that is not allowed, or a file written by a newer release."""


class BadRequest(SandboxdError):
    """A field of a request is missing or has a wrong value."""

    status = 400


class Unsupported(SandboxdError):
    """A field of a request asks for what this host cannot do. Nothing was made."""

    status = 400


class QuotaReached(SandboxdError):
    """The API key has as many sandboxes as it may have. Nothing was made."""

    status = 429
    retry_after_s = 30


class Unauthorised(SandboxdError):
    """The request came by TCP without a valid key."""

    status = 401


class Forbidden(SandboxdError):
    """The key is valid, and does not open that."""

    status = 403


class NotFound(SandboxdError):
    """No such sandbox, template or route."""

    status = 404


class Conflict(SandboxdError):
    """The request is ambiguous or contradicts the present state."""

    status = 409


class PoolEmpty(SandboxdError):
    """A member of a pool was asked for, and nothing else, and there is none. Nothing was made."""

    status = 410


class HostBusy(SandboxdError):
    """Too many sandboxes are being created already. Nothing was made."""

    status = 503
    retry_after_s = 5


class HostFull(SandboxdError):
    """The host has no room for one more sandbox. Nothing was made. `limit` is the setting that says so."""

    status = 503
    retry_after_s = 30

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class EngineDown(SandboxdError):
    """Docker does not answer. Nothing can be said about its objects."""

    status = 503
    retry_after_s = 5


class EngineError(SandboxdError):
    """Docker answered, and refused."""

    status = 503
    retry_after_s = 10


class HostError(SandboxdError):
    """The host cannot write what it must: a full or broken disk, a directory that was changed by hand."""

    status = 503
    retry_after_s = 10


class GatewayError(SandboxdError):
    """HAProxy does not answer on its admin socket, or refuses a map command."""

    status = 503
    retry_after_s = 5


class NotReady(SandboxdError):
    """A sandbox started, but its agent never answered. A repetition would fail in the same way, so this is no 503."""
