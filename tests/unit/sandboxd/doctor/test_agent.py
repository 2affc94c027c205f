"""Commands by a real agent, which listens where the gateway would."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config import Config
from sandboxd.doctor.agent import Execute, through_gateway
from sandboxd.errors import SandboxdError
from sandboxd.records import Claim, Sandbox
from sandboxd.tokens import agent_token
from tests.unit.envd.client import Running, running_agent
from tests.unit.ports import nobody
from tests.unit.sandboxd.conftest import KEY, World


@pytest.fixture
def row(world: World) -> Sandbox:
    return world.sandboxes.create(world.config.templates["base"], Claim())


@pytest.fixture
def agent(tmp_path: Path, row: Sandbox) -> Iterator[Running]:
    with running_agent(tmp_path, sandboxID=row.id, accessToken=agent_token(KEY, row.id)) as running:
        yield running


def at(config: Config, port: int) -> Execute:
    return through_gateway(replace(config, gateway=replace(config.gateway, address=("127.0.0.1", port))), KEY)


def test_a_command_that_ends(agent: Running, row: Sandbox, config: Config) -> None:
    execute = at(config, agent.port)
    assert execute(row, "true", False)
    assert not execute(row, "exit 3", False)


def test_one_in_the_background_runs_on(agent: Running, row: Sandbox, config: Config, tmp_path: Path) -> None:
    execute = at(config, agent.port)
    assert execute(row, f"mkfifo {tmp_path}/end; echo on >{tmp_path}/end", True)
    assert execute(row, f"until [ -p {tmp_path}/end ]; do sleep 0.01; done; [ $(cat {tmp_path}/end) = on ]", False)


def test_another_token_is_refused(agent: Running, row: Sandbox, config: Config) -> None:
    with pytest.raises(SandboxdError):
        at(config, agent.port)(replace(row, id="ffffffffffff"), "true", False)


def test_no_gateway(row: Sandbox, config: Config) -> None:
    with nobody() as (_, port), pytest.raises(SandboxdError, match="systemctl restart haproxy"):
        at(config, port)(row, "true", False)
