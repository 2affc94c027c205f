"""What the workstation remembers of a lab."""

from pathlib import Path

import pytest

from lab.state import SOCKET_PATH_MAX, State, control_path, known_hosts, locked, ssh_config
from tests.unit.lab.conftest import Machine

HOST_KEYS = "ssh-ed25519 AAAA root@web\nssh-rsa BBBB root@web\n\n"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State("web", tmp_path / ".lab")


def test_host_keys_under_name_and_address() -> None:
    assert known_hosts("web", "203.0.113.7", HOST_KEYS) == (
        "web,203.0.113.7 ssh-ed25519 AAAA\nweb,203.0.113.7 ssh-rsa BBBB\n"
    )


def test_configuration_trusts_the_known_key_only(tmp_path: Path) -> None:
    lines = [line.strip() for line in ssh_config("web", "203.0.113.7", tmp_path).splitlines()]
    assert lines[:2] == ["Host web", "HostName 203.0.113.7"]
    assert {"User root", "StrictHostKeyChecking yes", "HostKeyAlias web", f'IdentityFile "{tmp_path}/key"'} < set(lines)


def test_a_long_path_moves_the_shared_connection(tmp_path: Path) -> None:
    short, long = Path("/w/.lab/web"), Path("/w") / ("x" * SOCKET_PATH_MAX) / ".lab/web"
    assert control_path(short, "web", tmp_path) == short / "mux"
    assert control_path(long, "web", Path("/tmp")).parent.parent == Path("/tmp")


def test_files_are_written_once_and_follow_the_address(state: State, machine: Machine) -> None:
    state.directory.mkdir(parents=True)
    state.write("203.0.113.7", HOST_KEYS)
    before = state.ssh_config.stat().st_mtime_ns
    state.write("203.0.113.7", HOST_KEYS)
    assert (state.ssh_config.stat().st_mtime_ns, machine.ran) == (before, [])
    machine.answer("ssh", "-F")
    state.write("203.0.113.8", HOST_KEYS)
    assert "HostName 203.0.113.8" in state.ssh_config.read_text()
    # The shared connection to the old address is closed first.
    assert machine.ran == [["ssh", "-F", str(state.ssh_config), "-O", "exit", "web"]]


@pytest.mark.parametrize("half", [(), ("key",), ("key.pub",)])
def test_a_key_pair_is_made_where_there_is_none_or_half_of_one(
    half: tuple[str, ...], state: State, machine: Machine
) -> None:
    state.directory.mkdir(parents=True)
    for name in half:
        (state.directory / name).write_text("old")

    def keygen() -> tuple[int, str, str]:
        assert not state.key.exists()  # ssh-keygen would ask whether to overwrite it
        state.key.write_text("private")
        state.key.with_suffix(".pub").write_text("ssh-ed25519 NEW")
        return 0, "", ""

    machine.script.append((("ssh-keygen",), keygen))
    assert state.public_key() == state.public_key() == "ssh-ed25519 NEW"
    assert len(machine.ran) == 1


def test_removing_the_last_lab_leaves_nothing(state: State, machine: Machine) -> None:
    other = State("old", state.base)
    for one in (state, other):
        one.directory.mkdir(parents=True)
    assert state.remembered() == ["old", "web"]
    state.remove()
    assert other.remembered() == ["old"]
    other.remove()
    assert not state.base.exists()
    assert state.remembered() == []


def test_a_lock_leaves_no_file(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        assert list((tmp_path / "new").iterdir()) == []
    with locked(tmp_path / "new"):
        pass
