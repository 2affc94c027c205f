"""The engine and the base system, as they are in effect, whatever the files say."""

import ipaddress
import json
from typing import Any

import pytest

from deploys.docker import daemon_options
from tests.host.machine import Machine

OURS = ("sandboxd", "container-pool", "firewall", "thaw")


@pytest.fixture(scope="session")
def info(machine: Machine) -> dict[str, Any]:
    return dict(json.loads(machine.out("docker info --format '{{json .}}'")))


def test_the_engine_is_configured(machine: Machine, info: dict[str, Any]) -> None:
    wanted = machine.settings
    assert info["DefaultRuntime"] == wanted.docker_runtime
    assert info["LiveRestoreEnabled"]
    assert info["LoggingDriver"] == "local"
    assert any("name=userns" in option for option in info["SecurityOptions"]) == wanted.docker_userns_remap
    pools = [(pool["Base"], pool["Size"]) for pool in info["DefaultAddressPools"]]
    assert pools == [(wanted.docker_network_pool, wanted.docker_network_prefix)]


def test_the_configuration_file_is_ours(machine: Machine) -> None:
    file = machine.host.file("/etc/docker/daemon.json")
    assert json.loads(file.content_string) == daemon_options(machine.settings)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)


def test_docker0_and_new_networks_lie_where_the_settings_say(machine: Machine) -> None:
    bridge = json.loads(machine.out("docker network inspect bridge"))[0]["IPAM"]["Config"][0]
    assert bridge["Gateway"] == machine.settings.docker_bridge.split("/")[0]
    with machine.sandbox() as sandbox:
        network = next(iter(sandbox.inspect()["NetworkSettings"]["Networks"].values()))
        subnet = ipaddress.IPv4Network(f"{network['IPAddress']}/{network['IPPrefixLen']}", strict=False)
    assert subnet.prefixlen == machine.settings.docker_network_prefix
    assert subnet.subnet_of(ipaddress.IPv4Network(machine.settings.docker_network_pool))


def test_root_inside_is_nobody_outside(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        pid = sandbox.inspect()["State"]["Pid"]
        uid = int(machine.out(f"stat -c %u /proc/{pid}"))
        assert sandbox.out("id -u", "--user root") == "0"
        assert sandbox.inspect()["HostConfig"]["Runtime"] == machine.settings.docker_runtime
    assert (uid >= 100000) == machine.settings.docker_userns_remap


@pytest.mark.parametrize("service", ["docker", "haproxy", "cron", *OURS])
def test_services_run_and_start_at_boot(machine: Machine, service: str) -> None:
    name = machine.unit(service) if service in OURS else f"{service}.service"
    state = dict(
        line.split("=", 1)
        for line in machine.out(
            f"systemctl show {name} -p ActiveState -p UnitFileState -p NeedDaemonReload -p Result"
        ).splitlines()
    )
    assert state == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "Result": "success",
    }


def test_units_pass_systemds_own_check(machine: Machine) -> None:
    units = " ".join(machine.unit(name) for name in OURS)
    done = machine.run(f"systemd-analyze verify {units}", check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if machine.project in line]
    assert not ours


def test_kernel_parameters_are_in_effect(machine: Machine) -> None:
    for key, value in machine.settings.sysctls.items():
        found = machine.run(f"sysctl -n {key}", check=False)
        assert found.stdout.strip() == str(value) or "No such file" in found.stderr, key


def test_security_updates_are_on_and_leave_the_engine_alone(machine: Machine) -> None:
    configuration = machine.out("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in configuration
    assert 'Unattended-Upgrade::Package-Blacklist:: "^docker";' in configuration
    assert machine.host.package("unattended-upgrades").is_installed
    assert machine.host.service("apt-daily-upgrade.timer").is_enabled


def test_a_time_daemon_is_installed(machine: Machine) -> None:
    daemons = ("chrony", "ntpsec", "openntpd", "systemd-timesyncd")
    assert any(machine.host.package(name).is_installed for name in daemons)


def test_the_release_file_names_the_revision(machine: Machine) -> None:
    release = machine.host.file(f"{machine.settings.etc}/release").content_string
    key, _, revision = release.strip().partition("=")
    assert key == "revision" and revision and revision != "unknown"


def test_mounts_of_the_host_are_shared(machine: Machine) -> None:
    """As systemd made them: Docker relies on it, and what a deploy runs must leave it alone."""
    assert "shared" in machine.out("findmnt --noheadings --output PROPAGATION /").split(",")
