"""One running agent for all protocol tests, as the present user, with a working directory of its own."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envd.users import User
from tests.unit.envd.client import MYSELF, TOKEN, Client, Running, running_agent

HOME = pwd.getpwuid(os.getuid()).pw_dir


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("agent")
    with running_agent(directory, sandboxID="abc123def456", accessToken=TOKEN, envs={"FROM_SANDBOX": "yes"}) as running:
        yield running


@pytest.fixture
def client(agent: Running) -> Iterator[Client]:
    connected = Client(agent.port)
    yield connected
    connected.http.close()


@pytest.fixture(scope="session")
def workdir(agent: Running) -> Path:
    return agent.file.parent / "work"


@pytest.fixture
def myself() -> User:
    entry = pwd.getpwnam(MYSELF)
    return User(MYSELF, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(MYSELF, entry.pw_gid)), entry.pw_dir)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that another user can reach and write to; pytest's own are closed to him."""
    path = Path(tempfile.mkdtemp(prefix="open"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)
