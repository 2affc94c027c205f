"""Who this sandbox is: identity, token, environment. Reads agent.json."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envd.errors import EnvdError

AGENT_FILE = "/run/sandbox/agent.json"
LISTEN = "0.0.0.0:49983"  # E2B's clients know no other port
DEFAULT_WORKDIR = "/code"

# The agent's own environment; its children do not get it.
TOKEN_VARIABLE = "ENVD_ACCESS_TOKEN"  # where there is no agent.json
AGENT_FILE_VARIABLE = "ENVD_AGENT_FILE"  # instead of AGENT_FILE
LISTEN_VARIABLE = "ENVD_LISTEN"  # address:port instead of LISTEN; port 0 takes a free one
START_DIRECTORY_VARIABLE = "ENVD_START_DIRECTORY"  # whose programs run beside the agent, instead of the image's
OWN_VARIABLES = (TOKEN_VARIABLE, AGENT_FILE_VARIABLE, LISTEN_VARIABLE, START_DIRECTORY_VARIABLE)

log = logging.getLogger("envd")


class ConfigError(EnvdError):
    """The agent cannot know its token, so it must not serve."""

    def __init__(self, message: str) -> None:
        super().__init__("failed_precondition", message)


@dataclass(frozen=True)
class AgentConfig:
    """The content of agent.json. `workdir` is where commands start and relative paths begin; "" means the home."""

    access_token: str
    sandbox_id: str = ""
    template_id: str = ""
    envs: Mapping[str, str] = field(default_factory=dict)
    user: str = "user"
    workdir: str = ""

    def sandbox_envs(self) -> dict[str, str]:
        """The variables that every process of this sandbox gets, whoever runs it."""
        identity = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": self.sandbox_id, "E2B_TEMPLATE_ID": self.template_id}
        return {**identity, **self.envs}


class ConfigSource:
    """The current AgentConfig: agent.json is read again whenever another file, or a newer one, is in its place."""

    def __init__(self, path: str, fallback_token: str = "") -> None:
        """Raise ConfigError when neither the file nor the fallback gives a token."""
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._config = AgentConfig(access_token=fallback_token, workdir=DEFAULT_WORKDIR)
        if os.path.exists(path):
            self._stamp = self._read_stamp()
            self._config = _parse(path)
        elif not fallback_token:
            raise ConfigError(f"no token: {path} does not exist and {TOKEN_VARIABLE} is not set; provide one of them")

    def current(self) -> AgentConfig:
        """The configuration as of now; costs one stat. A broken replacement is logged, and the last good one kept."""
        try:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._config = _parse(self._path)
        except FileNotFoundError:
            pass
        except (OSError, ConfigError) as error:
            log.error("keeping the last good configuration: %s", error)
        return self._config

    def _read_stamp(self) -> tuple[int, ...]:
        stat = os.stat(self._path)
        return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def _parse(path: str) -> AgentConfig:
    try:
        with open(path, "rb") as file:
            raw: Any = json.load(file)
        config = AgentConfig(
            access_token=raw["accessToken"],
            sandbox_id=raw.get("sandboxID", ""),
            template_id=raw.get("templateID", ""),
            envs={str(name): str(value) for name, value in (raw.get("envs") or {}).items()},
            user=raw.get("user") or "user",
            workdir=raw.get("workdir") or "",
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not a valid agent file: {error!r}") from error
    if not config.access_token or not isinstance(config.access_token, str):
        raise ConfigError(f"{path} holds no accessToken")
    return config
