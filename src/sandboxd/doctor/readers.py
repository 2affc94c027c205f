"""What the checks look through: the parts of the daemon, and the effects on the host."""

from dataclasses import dataclass
from functools import cached_property

from sandboxd.config import Config
from sandboxd.description import Description
from sandboxd.doctor.effects import Effects
from sandboxd.engine import Engine
from sandboxd.health import Health
from sandboxd.pool import Pool
from sandboxd.sandboxes import Sandboxes


@dataclass(frozen=True)
class Readers:
    """Made anew for each examination."""

    sandboxes: Sandboxes
    pool: Pool
    health: Health
    agent_version: str
    effects: Effects

    @property
    def config(self) -> Config:
        return self.sandboxes.config

    @property
    def engine(self) -> Engine:
        return self.sandboxes.engine

    @cached_property
    def described(self) -> Description:
        """How the engine is configured; it is asked once. Raises EngineDown, EngineError."""
        return self.engine.describe()

    @property
    def daemon_unit(self) -> str:
        return f"{self.config.project}-sandboxd.service"
