"""What `up` does with a lab that is new, stopped, up, or not ours."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lab import create, network
from lab.errors import LabError, UsageError
from lab.facts import HostFacts
from tests.unit.lab.conftest import Machine, inspected

EngineWith = Callable[..., Machine]


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine answers, ssh is installed, and every image is built."""
    monkeypatch.setattr("lab.engine.ensure", lambda: None)
    monkeypatch.setattr("lab.engine.install_missing", lambda packages: None)
    monkeypatch.setattr("lab.build.ensure_image", lambda suite: f"img:{suite}")


def test_a_lab_that_is_up_stays_as_it_is_but_is_waited_for(engine_with: EngineWith) -> None:
    machine = engine_with(inspected("web"))
    assert create.up("web").running
    assert not machine.ran_with("docker", "run") + machine.ran_with("docker", "start")
    assert machine.ran_with("docker", "exec", "sandbox-lab-web", "systemctl", "is-system-running")


def test_a_stopped_lab_is_resumed(engine_with: EngineWith) -> None:
    machine = engine_with(inspected("web", running=False))

    def start() -> tuple[int, str, str]:
        engine_with(inspected("web"))
        return 0, "", ""

    machine.script.insert(0, (("docker", "start", "sandbox-lab-web"), start))
    assert create.up("web").running
    assert not machine.ran_with("docker", "run")


def test_a_new_lab_is_started_from_the_image_of_its_suite(engine_with: EngineWith) -> None:
    machine = engine_with()
    machine.answer("docker", "container", "inspect", code=1)

    def run() -> tuple[int, str, str]:
        engine_with(inspected("web", suite="bookworm"))
        return 0, "", ""

    machine.script.insert(0, (("docker", "run"), run))
    machine.answer("ssh-keygen")
    assert create.up("web", debian="12").debian == "bookworm"
    (command,) = machine.ran_with("docker", "run")
    assert "img:bookworm" in command


def test_a_new_lab_gets_its_address_in_a_network_made_for_it(engine_with: EngineWith, tmp_path: Path) -> None:
    machine = engine_with()
    machine.answer("docker", "container", "inspect", code=1)
    machine.answer("docker", "network", "inspect", code=1)
    machine.answer("docker", "network", "create")

    def run() -> tuple[int, str, str]:
        engine_with(inspected("web", address="10.231.0.11"))
        return 0, "", ""

    machine.script.insert(0, (("docker", "run"), run))
    assert create.up("web", address="10.231.0.11").fixed_address == "10.231.0.11"
    ((*_, made),) = machine.ran_with("docker", "network", "create")
    (command,) = machine.ran_with("docker", "run")
    assert {f"--network={made}", "--ip=10.231.0.11"} < set(command)
    resolver = tmp_path / "web/resolv.conf"
    assert f"--volume={resolver}:/etc/resolv.conf" in command
    assert resolver.read_text() == network.resolv_conf()


def test_an_address_cannot_be_changed(engine_with: EngineWith) -> None:
    engine_with(inspected("web", address="10.231.0.11"), inspected("old"))
    assert create.up("web", address="10.231.0.11").running
    with pytest.raises(LabError, match=r"web has 10\.231\.0\.11, not 10\.231\.0\.12") as caught:
        create.up("web", address="10.231.0.12")
    assert caught.value.remedy == "run: python3 -m lab down web"
    with pytest.raises(LabError, match=r"no address of its own, not 10\.231\.0\.12"):
        create.up("old", address="10.231.0.12")


def test_another_suite_is_refused(engine_with: EngineWith) -> None:
    engine_with(inspected("web"))
    with pytest.raises(LabError, match="web is Debian trixie, not bookworm") as caught:
        create.up("web", debian="bookworm")
    assert caught.value.remedy == "run: python3 -m lab down web"


def test_a_container_of_another_working_copy_is_left_alone(engine_with: EngineWith) -> None:
    machine = engine_with()
    machine.answer("docker", "container", "inspect")
    with pytest.raises(LabError, match="belongs to another working copy"):
        create.up("web")
    assert not machine.ran_with("docker", "run") + machine.ran_with("docker", "rm")


def test_what_could_not_start_is_removed(engine_with: EngineWith) -> None:
    machine = engine_with()
    machine.answer("docker", "container", "inspect", code=1)

    def run() -> tuple[int, str, str]:
        engine_with(inspected("web", running=False))
        machine.answer("docker", "rm")
        return 125, "", "port is already allocated"

    machine.script.insert(0, (("docker", "run"), run))
    with pytest.raises(LabError, match="port is already allocated"):
        create.up("web", publish_https=8443)
    assert machine.ran_with("docker", "rm")


def test_a_capability_that_the_engine_does_not_know_is_not_dropped(
    engine_with: EngineWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = engine_with()
    machine.answer("docker", "container", "inspect", code=1)
    monkeypatch.setattr("lab.facts.gather", lambda info: HostFacts(2, ("SYS_RESOURCE", "PERFMON")))

    def run() -> tuple[int, str, str]:
        if "--cap-drop=PERFMON" in machine.ran[-1]:
            return 125, "", 'Error response from daemon: invalid CapDrop: unknown capability: "CAP_PERFMON".'
        engine_with(inspected("web"))
        return 0, "", ""

    machine.script.insert(0, (("docker", "run"), run))
    assert create.up("web").running
    refused, accepted = machine.ran_with("docker", "run")
    assert [word for word in refused if word not in accepted] == ["--cap-drop=PERFMON"]


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(port: int, machine: Machine) -> None:
    with pytest.raises(UsageError, match=str(port)):
        create.up("web", publish_https=port)
    assert machine.ran == []


@pytest.mark.parametrize("name", ["none", "a,b"])
def test_what_cannot_be_shared(name: str, engine_with: EngineWith, tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    engine_with()
    with pytest.raises(UsageError, match="cannot be shared"):
        create.up("web", share=tmp_path / name)
