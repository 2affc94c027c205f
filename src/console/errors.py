"""What can go wrong, as types. Every message is for the person who looks at the page, or who reads the unit's log."""


class ConsoleError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(ConsoleError):
    """The configuration file or the secret is missing or wrong. The console does not start."""


class Refused(ConsoleError):
    """A request that is not done, with its HTTP status; often in the words of sandboxd."""

    def __init__(self, status: int, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after_s = status, message, retry_after_s


class SignedOut(ConsoleError):
    """There is no session, or it has ended: sign in first."""


class AgentError(ConsoleError):
    """The agent of a sandbox refuses, or is not reached."""


class Unreached(AgentError):
    """The way to the agent of a sandbox is broken: it may have got what was sent, or not."""
