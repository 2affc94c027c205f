"""Docker's answers and errors, as the rest of the daemon sees them."""

from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException, NotFound

from sandboxd import engine, errors

INSPECTED = {
    "Id": "4f1c0a9be2d7" + "0" * 52,
    "Name": "/acme-qa-1",
    "Image": "sha256:1",
    "State": {"Running": True, "Pid": 7, "StartedAt": "2027-01-15T08:00:00.123456789Z", "ExitCode": 0},
    "NetworkSettings": {"Networks": {"acme-net-x": {"IPAddress": "10.200.0.2", "Gateway": "10.200.0.1"}}},
}


def test_a_container() -> None:
    found = engine.parse_container(INSPECTED)
    assert (found.id, found.name, found.running, found.pid) == ("4f1c0a9be2d7", "acme-qa-1", True, 7)
    assert (found.address, found.gateway) == ("10.200.0.2", "10.200.0.1")


def test_a_dead_container_says_why() -> None:
    state = {"Running": False, "ExitCode": 137, "OOMKilled": True}
    found = engine.parse_container({**INSPECTED, "State": state, "NetworkSettings": {"Networks": None}})
    assert (found.running, found.pid, found.address, found.exit) == (False, 0, "", "exit code 137, out of memory")


@pytest.mark.parametrize(
    ("info", "uid"),
    [
        (
            {"SecurityOptions": ["name=seccomp", "name=userns"], "DockerRootDir": "/var/lib/docker/165536.165536"},
            165536,
        ),
        ({"SecurityOptions": ["name=seccomp"], "DockerRootDir": "/var/lib/docker"}, 0),
        ({"SecurityOptions": None, "DockerRootDir": "/data/5.5"}, 0),
    ],
)
def test_the_uid_that_is_root_inside(info: dict[str, Any], uid: int) -> None:
    assert engine.base_uid(info) == uid


def test_dockers_times() -> None:
    assert engine.timestamp("2027-01-15T08:00:00.123456789Z") == pytest.approx(1_800_000_000.123456)
    assert engine.timestamp("2027-01-15T09:00:00+01:00") == 1_800_000_000


class Api:
    """docker-py's client, of which one method fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            raise self.error

        return call


def with_api(error: Exception) -> engine.DockerEngine:
    made = engine.DockerEngine()
    made._client = Api(error)  # type: ignore[assignment]
    return made


def answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


def test_what_is_gone_is_no_error_where_it_should_go() -> None:
    gone = with_api(NotFound("gone", response=answer(404), explanation="no such thing"))
    gone.remove_container("x")
    gone.remove_network("x")
    gone.remove_volume("x")
    assert gone.container("x") is None and gone.logs("x", 5) == ""
    with pytest.raises(errors.EngineError, match=r"image 'i' is not on this host. Build it: deploy again"):
        gone.image_id("i")
    with pytest.raises(errors.EngineError, match="no such thing"):
        gone.start("x")


def test_a_refusal_carries_dockers_explanation() -> None:
    refusing = with_api(APIError("no", response=answer(500), explanation="no space left on device"))
    with pytest.raises(errors.EngineError, match="start x: no space left on device"):
        refusing.start("x")
    assert refusing._client is not None


@pytest.mark.parametrize("error", [DockerException("refused"), requests.ConnectionError("refused")])
def test_an_engine_that_is_down_is_asked_anew_next_time(error: Exception) -> None:
    down = with_api(error)
    with pytest.raises(errors.EngineDown, match="systemctl status docker"):
        down.version()
    assert down._client is None


class Events:
    """docker-py's client: a stream of events that breaks."""

    def events(self, **options: Any) -> Any:
        assert options["filters"]["label"] == "sandbox.project=acme" and options["decode"]
        yield {"Actor": {"Attributes": {"sandbox.slot": "s1"}}}
        raise requests.exceptions.ChunkedEncodingError("broken")


def test_changes_end_with_the_connection() -> None:
    made = engine.DockerEngine()
    made._client = Events()  # type: ignore[assignment]
    changes = made.changes("acme")
    assert next(changes) == "s1"
    with pytest.raises(errors.EngineDown, match="has hung up"):
        next(changes)
