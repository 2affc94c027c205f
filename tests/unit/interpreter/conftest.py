"""One running interpreter for all tests of it, and a context of its own for each test that changes something."""

from collections.abc import Iterator

import pytest

from tests.unit.interpreter.client import Client, Json, Running

LANGUAGES = ("python", "javascript", "typescript", "bash")


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    times = "kernels.INTERRUPT_TIMEOUT_S = 60"  # on a busy machine bash needs more than the 5 s of a real one
    running = Running(tmp_path_factory.mktemp("interpreter"), patience=times, envs={"FROM_SANDBOX": "yes"})
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


@pytest.fixture
def client(interpreter: Running) -> Iterator[Client]:
    connected = Client(interpreter.port)
    yield connected
    connected.http.close()


@pytest.fixture(scope="session")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of an interpreter that says soon that it is alive, and soon loses patience with a kernel."""
    times = "delivery.KEEPALIVE_S = kernels.INTERRUPT_TIMEOUT_S = 0.5; context.TAKE_BACK_TIMEOUT_S = 2.0"
    running = Running(tmp_path_factory.mktemp("hasty"), patience=times)
    yield Client(running.port)
    assert running.stop() == 0


@pytest.fixture(scope="session", params=LANGUAGES)
def shared(interpreter: Running, request: pytest.FixtureRequest) -> Json:
    """A context of each language, for tests that do not mind what others ran in it: bash takes seconds to start."""
    return Client(interpreter.port).create(language=request.param)


@pytest.fixture(scope="session")
def python(interpreter: Running) -> Json:
    """The same, of Python alone."""
    return Client(interpreter.port).create(language="python")


@pytest.fixture
def context(client: Client, request: pytest.FixtureRequest) -> Iterator[Json]:
    """Of the language that the test names by `@pytest.mark.parametrize(..., indirect=True)`, else of Python."""
    made = client.create(language=getattr(request, "param", "python"))
    yield made
    client.delete(made["id"])
