"""The deploy, run again: it changes nothing on a host that is right, and mends exactly what is not."""

import json
import shlex
from pathlib import Path

import pytest

from tests.host.machine import Machine, Report, eventually

pytestmark = pytest.mark.disruptive


def started(machine: Machine) -> dict[str, str]:
    """When each container and each of our units was started."""
    units = [
        machine.unit("sandboxd"),
        machine.unit("container-pool"),
        "docker.service",
        "haproxy.service",
        "cron.service",
    ]
    shown = machine.out(f"systemctl show {' '.join(units)} -p Id -p InvocationID")
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    return machine.running_ours() | {block["Id"]: block["InvocationID"] for block in blocks}


def empty_routes(machine: Machine) -> None:
    """Empty the map that HAProxy reads at its start, and the one that it has in memory."""
    machine.run(f": >{machine.settings.state}/routes.map")
    machine.gateway(f"clear map {machine.settings.state}/routes.map")


def routes_in_step(machine: Machine) -> bool:
    return bool(json.loads(machine.out("docker-sandbox routes status --json || true"))["in_step"])


def test_the_first_deploy_made_everything(machine: Machine, first_deploy: Report) -> None:
    assert len(first_deploy.changed) > 40


def test_a_second_run_changes_nothing_and_restarts_nothing(machine: Machine) -> None:
    machine.wait_for_full_pool()
    with machine.sandbox() as sandbox:
        machine.wait_for_full_pool()
        before = started(machine)
        report = machine.deploy()
        assert report.changed == []
        assert started(machine) == before
        assert sandbox.out("echo alive") == "alive"


def test_damage_is_mended_and_nothing_else_is_touched(machine: Machine) -> None:
    machine.wait_for_full_pool()
    wanted = machine.settings
    with machine.sandbox() as sandbox:
        machine.wait_for_full_pool()
        before = started(machine)
        image = machine.out(f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {machine.project}-playwright")
        machine.run("echo '# edited by hand' >>/etc/haproxy/haproxy.cfg")
        machine.run(f"chmod 644 {wanted.etc}/secrets/token_key && chmod 755 {wanted.etc}/secrets")
        machine.run("systemctl disable --now cron.service")
        machine.run(f"docker image rm {image}")
        machine.run(
            f"mkdir {wanted.state}/build/image-of-settings-since-changed && touch {wanted.state}/build/image.log"
        )
        report = machine.deploy()
        assert report.changed == [
            "Base | Start cron",
            f"Images | Build {image}",
            "Images | Remove what builds that failed have left",
            f"Gateway | Make {wanted.etc}/secrets",
            "Gateway | Write /etc/haproxy/haproxy.cfg",
            "Gateway | Load the changed configuration",
            "sandboxd | Close the token key",
        ]
        after = started(machine)
        assert {key: value for key, value in after.items() if key != "cron.service"} == {
            key: value for key, value in before.items() if key != "cron.service"
        }
        assert sandbox.out("echo alive") == "alive"
        assert machine.request("GET", sandbox.url(4000)).json()["message"].startswith("The sandbox is running")
        assert machine.deploy().changed == []


def test_routes_that_went_astray_are_mended(machine: Machine) -> None:
    """sandboxd does so itself, twice a minute and after each reload of the gateway. While Docker does not answer it
    compares nothing, and whether a deploy does it can be seen.
    """
    health = f"curl -fsS --unix-socket /run/{machine.settings.name}/sandboxd.sock http://sandboxd/health"
    script = "tests/host/routes_only.py"
    with machine.sandbox():
        machine.run("systemctl stop docker.socket docker.service")
        try:
            eventually(lambda: machine.out(health), lambda told: "docker: " in told, 90, "end of comparisons")
            empty_routes(machine)
            assert not routes_in_step(machine)
            assert machine.deploy(script=script).changed == ["sandboxd | Bring the routes in step with the ledger"]
            assert routes_in_step(machine)
            assert machine.deploy(script=script).changed == []
        finally:
            machine.run("systemctl start docker.socket docker.service")
        eventually(lambda: machine.out(health), lambda told: told == "ok", 90, "host that is well")


def test_stopped_services_are_started(machine: Machine) -> None:
    units = [machine.unit("container-pool"), machine.unit("sandboxd"), "haproxy.service"]
    machine.run(f"systemctl stop {' '.join(units)}")
    machine.run("docker stop traefik")
    report = machine.deploy()
    assert report.changed == [
        "Traefik | Run Traefik",
        "Gateway | Run the gateway",
        "sandboxd | Run sandboxd",
        "Pool | Run the pool",
    ]
    assert machine.deploy().changed == []


def test_an_interrupted_deploy_can_be_run_again(machine: Machine) -> None:
    """A unit file that was written, but whose service was not restarted before the connection broke; and no
    environment, which is the firewall's, too.
    """
    unit = machine.unit("sandboxd")
    machine.run(
        f"echo '# half' >>/etc/systemd/system/{unit}; systemctl daemon-reload; rm -rf {machine.settings.opt}/venv"
    )
    report = machine.deploy()
    assert report.changed == [
        "sandboxd | Install sandboxd",
        "sandboxd | Raise the firewall",
        f"sandboxd | Write /etc/systemd/system/{unit}",
        "sandboxd | Run sandboxd",
    ]
    assert machine.deploy().changed == []


def test_a_user_with_sudo_deploys_as_well(machine: Machine, tmp_path: Path) -> None:
    """The same plan through sudo, to a host that is named and not a lab: it sees what root left, and mends it."""
    machine.run(
        "id admin >/dev/null 2>&1 || useradd --create-home --shell /bin/bash admin; "
        "install -d -m 700 -o admin ~admin/.ssh && install -m 600 -o admin ~/.ssh/authorized_keys ~admin/.ssh/; "
        "echo 'admin ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/admin"
    )
    wanted = machine.settings
    settings = {
        **machine.target.settings,
        "extra_ca_certificates": ",".join(wanted.extra_ca_certificates),
        "sysctls": json.dumps(wanted.sysctls),
        "ssh_known_hosts_file": str(tmp_path / "known_hosts"),
    }
    named = {
        "HOST": f"admin@{machine.target.address}:{machine.target.port}",
        "SSH_KEY": machine.target.key,
        "DOMAIN": wanted.domain,
        "SET": " ".join(shlex.quote(f"{key}={value}") for key, value in settings.items()),
    }
    machine.wait_for_full_pool()
    before = started(machine)
    assert machine.deploy(**named).changed == []
    machine.run(f"chmod 600 {wanted.etc}/config.toml; rm /etc/cron.d/{wanted.name}-cleanup")
    assert machine.deploy(**named).changed == [
        f"sandboxd | Write {wanted.etc}/config.toml",
        f"Cleanup | Write /etc/cron.d/{wanted.name}-cleanup",
    ]
    assert machine.deploy(**named).changed == []
    assert started(machine) == before
    machine.run("rm /etc/sudoers.d/admin")
    refused = machine.pyinfra("deploy.py", "--yes", **named)
    assert refused.returncode != 0 and "sudo" in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pool_size=1000", "pool_size"),
        ("pool_sise=3", "did you mean pool_size?"),
        ("domain=not_a_domain", "domain"),
        ("docker_network_pool=10.0.0.0/33", "docker_network_pool"),
    ],
)
def test_bad_settings_stop_before_the_first_change(machine: Machine, setting: str, message: str) -> None:
    machine.wait_for_full_pool()
    before = started(machine)
    done = machine.pyinfra("deploy.py", "--yes", SET=setting)
    shown = done.stdout + done.stderr
    assert done.returncode != 0 and message in shown and "Traceback" not in shown, shown
    assert started(machine) == before
