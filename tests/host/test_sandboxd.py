"""The control plane as installed: sockets, permissions, and who may use it."""

import json

import pytest

from tests.host.machine import Machine


def test_the_socket_is_for_root_and_the_group(machine: Machine) -> None:
    file = machine.host.file(f"/run/{machine.settings.name}/sandboxd.sock")
    assert file.is_socket and (file.user, file.group, file.mode) == ("root", "sandbox", 0o660)


def test_the_gateway_has_a_socket_of_its_own(machine: Machine) -> None:
    file = machine.host.file(f"/run/{machine.settings.name}/gateway.sock")
    assert file.is_socket and (file.user, file.group, file.mode) == ("root", "haproxy", 0o660)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("{etc}", 0o755),
        ("{etc}/secrets", 0o700),
        ("{etc}/secrets/token_key", 0o600),
        ("{etc}/config.toml", 0o644),
        ("{state}", 0o711),
        ("{state}/ledger.sqlite", 0o600),
        ("{state}/routes.map", 0o644),
        ("/usr/local/bin/docker-sandbox", 0o755),
        ("/usr/share/bash-completion/completions/docker-sandbox", 0o644),
    ],
)
def test_permissions(machine: Machine, path: str, mode: int) -> None:
    file = machine.host.file(path.format(etc=machine.settings.etc, state=machine.settings.state))
    assert (file.user, file.group, oct(file.mode)) == ("root", "root", oct(mode))


def test_both_names_are_the_same_program(machine: Machine) -> None:
    assert machine.out("docker-sandbox-cli.sh version") == machine.out("docker-sandbox version")


def test_health_is_ok(machine: Machine) -> None:
    assert machine.out("curl -fsS http://127.0.0.1:8090/health") == "ok"


def test_the_routes_are_in_step(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        status = json.loads(machine.out("docker-sandbox routes status --json"))
        assert status["in_step"], status
        address = next(iter(sandbox.inspect()["NetworkSettings"]["Networks"].values()))["IPAddress"]
        assert f"{sandbox.id} {address}" in machine.out(f"cat {machine.settings.state}/routes.map")
        assert f"{sandbox.id} {address}" in machine.gateway(f"show map {machine.settings.state}/routes.map")


def test_no_secret_is_in_a_label_an_environment_or_a_command_line(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        token = sandbox.token()
        secret = machine.out(f"cat {machine.settings.etc}/secrets/token_key")
        seen = json.dumps(sandbox.inspect()) + machine.out("ps axeww -o args")
    assert len(token) == 64 and token not in seen and secret not in seen


@pytest.mark.disruptive
def test_members_of_the_group_need_no_docker_group(machine: Machine) -> None:
    machine.run("id tester >/dev/null 2>&1 || useradd --create-home --groups sandbox tester")
    machine.run("id stranger >/dev/null 2>&1 || useradd --create-home stranger")
    assert "docker" not in machine.out("id -nG tester").split()
    sandbox = machine.out("runuser -u tester -- docker-sandbox init")
    assert machine.out(f"runuser -u tester -- docker-sandbox exec {sandbox} 'id -un'") == "user"
    machine.run(f"runuser -u tester -- docker-sandbox kill {sandbox}")
    refused = machine.run("runuser -u stranger -- docker-sandbox list", check=False)
    assert refused.returncode == 1 and "group" in refused.stderr and "sandbox" in refused.stderr
    unable = machine.run("runuser -u tester -- docker ps", check=False)
    assert unable.returncode != 0
