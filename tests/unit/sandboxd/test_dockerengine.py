"""Docker's answers and errors, as the rest of the daemon sees them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from docker.errors import APIError, DockerException, NotFound

from sandboxd import dockerengine, engine, errors, spec
from sandboxd.capacity import FILE_BYTES
from tests.unit.sandboxd.fake_engine import FakeEngine

INSPECTED = {
    "Id": "4f1c0a9be2d7" + "0" * 52,
    "Name": "/acme-qa-1",
    "Image": "sha256:1",
    "State": {"Running": True, "Pid": 7, "StartedAt": "2027-01-15T08:00:00.123456789Z", "ExitCode": 0},
    "NetworkSettings": {"Networks": {"acme-net-x": {"IPAddress": "10.200.0.2", "Gateway": "10.200.0.1"}}},
}


def test_a_container() -> None:
    found = dockerengine.parse_container(INSPECTED)
    assert (found.id, found.name, found.running, found.pid) == ("4f1c0a9be2d7", "acme-qa-1", True, 7)
    assert (found.address, found.gateway) == ("10.200.0.2", "10.200.0.1")


def test_a_dead_container_says_why() -> None:
    state = {"Running": False, "ExitCode": 137, "OOMKilled": True}
    found = dockerengine.parse_container({**INSPECTED, "State": state, "NetworkSettings": {"Networks": None}})
    assert (found.running, found.pid, found.address, found.exit) == (False, 0, "", "exit code 137, out of memory")


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


def with_api(error: Exception) -> dockerengine.DockerEngine:
    made = dockerengine.DockerEngine()
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
    made = dockerengine.DockerEngine()
    made._client = Events()  # type: ignore[assignment]
    changes = made.changes("acme")
    assert next(changes) == "s1"
    with pytest.raises(errors.EngineDown, match="has hung up"):
        next(changes)


def test_a_log_is_read_with_times_and_may_be_ended_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answers(logs=iter([b"2027-01-15T08:00:00.000000001Z hello\n"]))
    connected(monkeypatch, client)
    docker = dockerengine.DockerEngine()
    assert list(docker.log("c", 20, 0.0, follow=False)) == [b"2027-01-15T08:00:00.000000001Z hello\n"]
    docker.log("c", None, 5.5, follow=True)
    fixed = {"stream": True, "timestamps": True}
    assert client.asked == [
        ("logs", ("c",), {**fixed, "follow": False, "tail": 20, "since": None}),
        ("logs", ("c",), {**fixed, "follow": True, "tail": "all", "since": 5.5}),
    ]


def test_the_log_of_a_container_that_is_gone_is_empty() -> None:
    gone = with_api(NotFound("gone", response=answer(404), explanation="no such thing")).log("x", 5, 0.0, True)
    assert list(gone) == []
    gone.close()


def test_the_description_and_the_subnets(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answers(
        info={"DockerRootDir": "/d", "LiveRestoreEnabled": True},
        version={"Version": "26.1.5", "ApiVersion": "1.45"},
        networks=[{"IPAM": {"Config": [{"Subnet": "10.200.0.0/28"}]}}],
    )
    connected(monkeypatch, client)
    docker = dockerengine.DockerEngine()
    assert (docker.describe().version, docker.describe().root_dir) == ("26.1.5", "/d")
    assert docker.subnets() == ["10.200.0.0/28"]


class Answers:
    """docker-py's client that answers what it is told, and remembers how it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[tuple[str, tuple[Any, ...], dict[str, Any]]]()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.asked.append((name, args, kwargs))
            return self.answers[name]

        return call


def connected(monkeypatch: pytest.MonkeyPatch, *clients: Answers) -> list[dict[str, Any]]:
    """Each connection gets the next of these clients. Returns how the connections were made."""
    made: list[dict[str, Any]] = []

    def connect(**options: Any) -> Answers:
        made.append(options)
        return clients[len(made) - 1]

    monkeypatch.setattr("docker.APIClient", connect)
    return made


def test_it_connects_once_and_at_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made = connected(monkeypatch, Answers(version={"Version": "26.1"}))
    docker = dockerengine.DockerEngine()
    assert made == []
    assert docker.version() == docker.version() == "26.1"
    assert made == [{"version": "auto", "timeout": dockerengine.TIMEOUT_S}]


def test_dockers_settings_are_asked_again_after_it_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come back with another user namespace."""
    before = Answers(info={"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/1.1"})
    after = Answers(info={"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/2.2"})
    connected(monkeypatch, before, after)
    docker = dockerengine.DockerEngine()
    assert docker.userns_uid() == docker.userns_uid() == 1 and len(before.asked) == 1
    assert docker.data_root() == Path("/var/lib/docker/1.1") and len(before.asked) == 1
    docker._client = Api(requests.ConnectionError("gone"))  # type: ignore[assignment]
    with pytest.raises(errors.EngineDown):
        docker.start("x")
    assert docker.data_root() == Path("/var/lib/docker/2.2")
    assert docker.userns_uid() == 2


def test_what_docker_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Answers(
        create_network=None,
        create_container_from_config={"Id": INSPECTED["Id"]},
        start=None,
        rename=None,
        logs=b"last \xff line",
        inspect_image={"Id": "sha256:1"},
        inspect_container=INSPECTED,
        remove_container=None,
        remove_volume=None,
    )
    connected(monkeypatch, client)
    docker = dockerengine.DockerEngine()
    docker.create_network(spec.network_payload("acme", "0123456789ab", "base"))
    assert docker.create_container("name", {"Image": "i"}) == "4f1c0a9be2d7"
    docker.start("c")
    docker.rename("c", "new")
    assert docker.logs("c", 20) == "last \ufffd line"
    assert docker.image_id("i") == "sha256:1"
    assert docker.container("c") == dockerengine.parse_container(INSPECTED)
    docker.remove_container("c")
    docker.remove_volume("v")
    asked = {name: (args, kwargs) for name, args, kwargs in client.asked}
    assert asked["create_network"] == (
        ("acme-net-0123456789ab",),
        {
            "driver": "bridge",
            "options": {"com.docker.network.bridge.name": "sb-0123456789ab"},
            "labels": {"sandbox.project": "acme", "sandbox.slot": "0123456789ab", "sandbox.template": "base"},
            "check_duplicate": True,
            "enable_ipv6": False,
        },
    )
    assert asked["create_container_from_config"] == (({"Image": "i"}, "name"), {})
    assert asked["rename"] == (("c", "new"), {}) and asked["logs"] == (("c",), {"tail": 20})
    assert asked["remove_container"] == (("c",), {"v": True, "force": True})
    assert asked["remove_volume"] == (("v",), {"force": True})


def test_the_inventory_is_all_that_carries_the_projects_label(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"Labels": {"sandbox.slot": "s", "sandbox.walls": "w"}}
    client = Answers(
        containers=[
            {"Id": "a" * 64, "Created": 1_800_000_000, "State": "running", **labels},
            {"Id": "b" * 64, "Created": 1_800_000_001, "State": "exited", "Labels": None},
        ],
        networks=[{"Name": "n", "Created": "2027-01-15T08:00:00.123456789Z", **labels}],
        volumes={"Volumes": [{"Name": "v", "CreatedAt": "2027-01-15T08:00:00Z", **labels}]},
    )
    connected(monkeypatch, client)
    found = dockerengine.DockerEngine().inventory("acme")
    assert found == [
        engine.Found("container", "a" * 12, "s", 1_800_000_000, "running", {"sandbox.slot": "s", "sandbox.walls": "w"}),
        engine.Found("container", "b" * 12, "", 1_800_000_001, "exited"),
        engine.Found("network", "n", "s", pytest.approx(1_800_000_000.123456)),  # type: ignore[arg-type]
        engine.Found("volume", "v", "s", 1_800_000_000),
    ]
    assert client.asked[0] == ("containers", (), {"all": True, "filters": {"label": "sandbox.project=acme"}})
    assert {call[2]["filters"]["label"] for call in client.asked} == {"sandbox.project=acme"}


def test_no_volume_at_all_is_null_in_dockers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    connected(monkeypatch, Answers(containers=[], networks=[], volumes={"Volumes": None}))
    assert dockerengine.DockerEngine().inventory("acme") == []


def test_the_double_of_the_other_tests_is_an_engine() -> None:
    double: engine.Engine = FakeEngine(lambda: 0.0)
    assert double.inventory("acme") == []


@pytest.mark.parametrize(("files", "size", "wanted"), [(100, 0, 101 * FILE_BYTES), (1, 5_000_000, 5_000_000)])
def test_a_layer_of_empty_files_is_not_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: int, size: int, wanted: int
) -> None:
    """They use up the inodes of the disk that the host shares."""
    for number in range(files):
        (tmp_path / str(number)).write_bytes(bytes(size))
    made = dockerengine.DockerEngine()
    found = {"GraphDriver": {"Data": {"UpperDir": str(tmp_path)}}}
    monkeypatch.setattr(made, "_call", lambda *_: found)
    assert wanted <= made.layer_bytes("x") < wanted + 100_000


@pytest.mark.parametrize("failure", [subprocess.TimeoutExpired("du", 60), FileNotFoundError(2, "No such file")])
def test_a_layer_that_cannot_be_counted_is_told_in_our_words(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Of the watchdog's, whom one sandbox with many files must not keep from the others."""

    def fails(*_: object, **__: object) -> None:
        raise failure

    made = dockerengine.DockerEngine()
    monkeypatch.setattr(made, "_call", lambda *_: {"GraphDriver": {"Data": {"UpperDir": "/layer"}}})
    monkeypatch.setattr("sandboxd.dockerengine.subprocess.run", fails)
    with pytest.raises(errors.EngineError, match=r"^du .* /layer: "):
        made.layer_bytes("x")
