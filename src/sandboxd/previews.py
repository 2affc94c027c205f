"""Who may open the ports of a sandbox: what is given out for it, passwords, tokens and links that expire."""

import secrets
from dataclasses import dataclass

from sandboxd import AGENT_PORT, tokens
from sandboxd.config import Config, read_link_key
from sandboxd.errors import BadRequest, Conflict
from sandboxd.records import BASIC, TOKEN, Sandbox

USER = "preview"
PASSWORD_BYTES = 15  # 120 bits, in 20 characters
LINK_MAX_S = 90 * 86400.0
PARAMETER = "sandbox_link"  # as in haproxy.cfg


@dataclass(frozen=True)
class Password:
    """It is told once: only `digest` is kept."""

    user: str
    password: str

    @property
    def digest(self) -> str:
        return tokens.password_digest(self.user, self.password)


@dataclass(frozen=True)
class Link:
    url: str
    until: int  # Unix seconds


def new_password() -> Password:
    return Password(USER, secrets.token_urlsafe(PASSWORD_BYTES))


def link(config: Config, row: Sandbox, port: int | None, seconds: float, now: float) -> Link:
    """The address of a port (None: the default port's) that opens it for so long, whoever has it.

    Raises Conflict for a sandbox that wants no token, BadRequest for the agent's port, ConfigError without a key.
    """
    if row.access != TOKEN:
        others = "asks for a password" if row.access == BASIC else "is public: whoever knows its URL may open it"
        raise Conflict(f"sandbox {row.id} {others}. Links are for `docker-sandbox access {row.id} token`.")
    if port == AGENT_PORT:
        raise BadRequest(f"port: {AGENT_PORT} is the agent's, which has a token of its own.")
    until = int(now + seconds)
    key = read_link_key(config.secrets_dir)
    proof = tokens.link_token(key, row.id, port or config.default_port, until, row.access_round)
    return Link(f"{config.url(row.id, port)}/?{PARAMETER}={proof}", until)
