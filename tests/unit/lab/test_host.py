"""Finding, reaching and removing labs; the boot that is waited for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lab import host
from lab.errors import LabError, NoSuchLab
from tests.unit.lab.conftest import Machine, inspected

EngineWith = Callable[..., Machine]


def test_a_lab_as_docker_describes_it() -> None:
    lab = host.from_inspect(inspected("web"))
    assert (lab.name, lab.debian, lab.image, lab.running) == ("web", "trixie", "img:1", True)
    assert (lab.address, lab.published) == ("203.0.113.7", {"443/tcp": "127.0.0.1:8443"})
    stopped = host.from_inspect(inspected("web", running=False))
    assert (stopped.address, stopped.published) == ("", {})


def test_a_lab_with_an_address_of_its_own() -> None:
    lab = host.from_inspect(inspected("web", address="10.231.0.11"))
    assert (lab.address, lab.fixed_address) == ("10.231.0.11", "10.231.0.11")
    stopped = host.from_inspect(inspected("web", running=False, address="10.231.0.11"))
    assert (stopped.address, stopped.fixed_address) == ("", "10.231.0.11")
    assert host.from_inspect(inspected("web")).fixed_address == ""


def test_labs_are_sorted_and_found_by_name(engine_with: EngineWith) -> None:
    engine_with(inspected("web"), inspected("old", suite="bookworm"))
    assert [lab.name for lab in host.labs()] == ["old", "web"]
    assert host.get("old").debian == "bookworm"


def test_an_unknown_name_is_told_what_there_is(engine_with: EngineWith) -> None:
    engine_with(inspected("web"))
    with pytest.raises(NoSuchLab, match=r"no lab 'nope' \(there is: web\)") as caught:
        host.find("nope")
    assert caught.value.remedy == "run: python3 -m lab up nope"


def test_a_stopped_lab_is_not_found_but_can_be_had(engine_with: EngineWith) -> None:
    engine_with(inspected("web", running=False))
    with pytest.raises(LabError, match="web is stopped"):
        host.find("web")
    assert not host.get("web").running


def test_found_labs_can_be_reached(engine_with: EngineWith, tmp_path: Path) -> None:
    engine_with(inspected("web"))
    lab = host.find("web")
    assert lab.ssh_config == tmp_path / "web/ssh_config"
    assert "HostName 203.0.113.7" in lab.ssh_config.read_text()
    data = lab.pyinfra_data()
    assert (data["ssh_hostname"], data["ssh_user"], data["ssh_port"]) == ("203.0.113.7", "root", 22)
    assert Path(data["ssh_known_hosts_file"]).read_text() == "web,203.0.113.7 ssh-ed25519 HOSTKEY\n"


def test_commands_of_ssh_and_push(engine_with: EngineWith) -> None:
    machine = engine_with(inspected("web"))
    machine.answer("scp")
    lab = host.get("web")
    lab.ssh("uptime; id")
    lab.push(Path("/src"), "/dst")
    config = str(lab.ssh_config)
    assert machine.ran_with("ssh") == [["ssh", "-F", config, "web", "--", "uptime; id"]]
    assert machine.ran_with("scp") == [["scp", "-q", "-r", "-p", "-F", config, "/src", "web:/dst"]]


def test_a_restart_waits_and_returns_the_lab_at_its_new_address(engine_with: EngineWith) -> None:
    machine = engine_with(inspected("web"))
    machine.answer("docker", "restart")
    assert host.get("web").restart().address == "203.0.113.7"
    words = [" ".join(command) for command in machine.ran]
    assert machine.ran.count(["docker", "exec", "sandbox-lab-web", "sh", "-c", host.THAW]) == 0, "a host does it itself"
    assert words.index("docker restart sandbox-lab-web") < words.index(
        "docker exec sandbox-lab-web systemctl is-system-running"
    )
    assert words[-1].endswith("web -- true")


def test_a_lab_that_stops_while_it_boots_says_so_with_its_console(engine_with: EngineWith) -> None:
    machine = engine_with(inspected("web", running=False))
    machine.answer("docker", "exec", code=1, err="container is not running")
    machine.answer("docker", "logs", out="\x1b[0;1;31mmount: /sys: permission denied.\x1b[0m\r\n\n")
    machine.answer("docker", "inspect", "--format", out="2026-01-02T03:04:05.6Z")
    with pytest.raises(LabError, match="stopped while it booted") as caught:
        host.get("web").wait()
    assert "== console\nmount: /sys: permission denied.\n" in str(caught.value)


def test_a_boot_without_end_is_reported(engine_with: EngineWith, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = engine_with(inspected("web"))
    machine.answer("docker", "exec", out="starting\n")
    machine.answer("docker", "logs", out="A start job is running")
    machine.answer("docker", "inspect", "--format", out="2026-01-02T03:04:05.6Z")
    monkeypatch.setattr(host, "BOOT_TIMEOUT_S", -1)
    with pytest.raises(LabError, match="state 'starting'") as caught:
        host.get("web").wait()
    assert "A start job is running" in str(caught.value)
    assert machine.ran[-1][-1] == "2026-01-02 03:04:05 UTC"  # journalctl of Debian 12 reads no other form


def test_down_removes_container_volumes_and_keys(engine_with: EngineWith, tmp_path: Path) -> None:
    machine = engine_with(inspected("web"), inspected("old"))
    machine.answer("docker", "ps", out="web")
    machine.answer("docker", "inspect", "web", out='[{"NetworkSettings": {"Networks": {"bridge": {}}}}]')
    machine.answer("docker", "volume", "ls", out="left-over")
    machine.answer("docker", "volume", "rm")
    machine.answer("docker", "rm")
    host.down("web")
    assert machine.ran_with("docker", "exec") == [["docker", "exec", "sandbox-lab-web", "sh", "-c", host.THAW]]
    assert machine.ran_with("docker", "rm") == [["docker", "rm", "--force", "--volumes", "sandbox-lab-web"]]
    assert machine.ran_with("docker", "volume", "rm") == [["docker", "volume", "rm", "left-over"]]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(("others", "removed"), [("", 1), ("0123456789ab", 0)])
def test_the_network_goes_with_its_last_lab(others: str, removed: int, engine_with: EngineWith) -> None:
    machine = engine_with(inspected("web", address="10.231.0.11"))
    machine.answer("docker", "rm")
    machine.answer("docker", "network", "ls", out="6789")
    machine.answer("docker", "ps", "--all", "--quiet", "--filter=network=sandbox-lab-10.231.0.0", out=others)
    machine.answer("docker", "network", "rm")
    host.down("web")
    removals = machine.ran_with("docker", "network", "rm")
    assert removals == [["docker", "network", "rm", "sandbox-lab-10.231.0.0"]] * removed


def test_down_clears_up_after_a_container_that_was_removed_by_hand(engine_with: EngineWith, tmp_path: Path) -> None:
    machine = engine_with(inspected("web"))
    machine.answer("docker", "ps")
    host.down("web")
    assert not machine.ran_with("docker", "rm")
    assert not (tmp_path / "web").exists()


@pytest.mark.parametrize("name", ["nope", "..", "../web", "", "."])
def test_down_of_what_never_was_touches_nothing(name: str, engine_with: EngineWith, tmp_path: Path) -> None:
    machine = engine_with()
    (tmp_path / "web").mkdir()
    with pytest.raises(NoSuchLab):
        host.down(name)
    assert (tmp_path / "web").exists()
    assert not machine.ran_with("docker", "rm")
