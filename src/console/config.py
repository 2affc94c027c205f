"""Where the console finds what it talks to: from the file that the deploy writes, and from what systemd hands over."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from console.errors import ConfigError

REMEDY = "Deploy the host again."
SECRET_BYTES = 32


@dataclass(frozen=True)
class Config:
    """`secret` signs sessions; `state` is a directory of our own."""

    domain: str
    socket: str
    gateway: tuple[str, int]
    default_template: str
    secret: bytes
    state: Path

    @property
    def host(self) -> str:
        return f"console.{self.domain}"

    @property
    def origin(self) -> str:
        return f"https://{self.host}"


def load(file: Path, environment: Mapping[str, str]) -> Config:
    """Raises ConfigError, which names the file or the variable."""
    try:
        values = tomllib.loads(file.read_text())
        host, _, port = values["gateway"]["address"].rpartition(":")
        credentials, state = environment["CREDENTIALS_DIRECTORY"], environment["STATE_DIRECTORY"]
        secret = (Path(credentials) / "session_key").read_bytes().strip()
        if len(secret) < SECRET_BYTES:
            raise ConfigError(f"{credentials}/session_key: has {len(secret)} bytes, too few. Remove it. {REMEDY}")
        return Config(
            values["domain"], values["socket"], (host, int(port)), values["default_template"], secret, Path(state)
        )
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}. {REMEDY}") from error
    except (ValueError, KeyError, TypeError) as error:  # ValueError: no TOML, no number
        raise ConfigError(f"{file}, or the environment: no usable {error}. {REMEDY}") from error
