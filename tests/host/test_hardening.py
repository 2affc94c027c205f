"""The host itself, tried: who may log in, what an update may touch, what our own services could still do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko
import pytest

from deploys import access, hardening
from deploys.operations import located
from deploys.settings import MANAGER
from tests.host.machine import Machine, eventually

# The most that `systemd-analyze security` may say. sandboxd mounts, enters namespaces and writes packet rules; HAProxy
# starts as root and serves the network: each directive that is missing there has its reason beside it in the unit.
EXPOSURE = {
    "console": 2.0,
    "container-pool": 2.0,
    "egress": 2.0,
    "firewall": 1.1,
    "name-servers": 2.0,
    "names": 2.0,
    "thaw": 2.0,
    "sandboxd": 4.0,
    "haproxy": 2.2,
}
# Beside these in a fleet: on each host, on managers, on the first of them. The engine is a Docker, as its unit says.
IN_A_FLEET = {"fleet-certificate": 2.0, "fleet-firewall": 1.1, "swarmd": 7.0}
ON_MANAGERS = {"fleet": 2.0}
ON_THE_FIRST = {"docker-registry": 2.0}
JOURNAL_STARTED = "ec387f577b844b8fa948f33cad9a75e6"  # systemd.journal-fields(7): how much it may take
UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
PASSWORD = "correct-horse-battery-staple"


def unit(machine: Machine, name: str) -> str:
    return f"{name}.service" if name in ("haproxy", "docker-registry") else machine.unit(name)


def bounds(machine: Machine) -> dict[str, float]:
    """The most for each unit that the host has."""
    wanted = machine.settings
    found = EXPOSURE | (IN_A_FLEET if wanted.fleet_role else {})
    if wanted.fleet_role == MANAGER:
        found |= ON_MANAGERS | (ON_THE_FIRST if wanted.builds_images else {})
    return found


# --- Units -----------------------------------------------------------------------------------------------------------


def too_open(machine: Machine) -> list[str]:
    """What systemd says of each unit that is more open than it may be."""
    shown = [machine.out(f"systemd-analyze security --no-pager {unit(machine, name)}") for name in bounds(machine)]
    found = [re.search(r"Overall exposure level for \S+: ([0-9.]+)", text) for text in shown]
    return [
        text
        for text, level, most in zip(shown, found, bounds(machine).values(), strict=True)
        if not level or float(level[1]) > most
    ]


def test_units_are_closed(machine: Machine) -> None:
    assert too_open(machine) == []


def test_every_service_of_ours_has_a_bound(machine: Machine) -> None:
    listed = machine.out(f"systemctl list-unit-files --no-legend '{machine.project}-*.service'").splitlines()
    ours = {unit(machine, name) for name in bounds(machine)} - {"haproxy.service", "docker-registry.service"}
    if machine.settings.fence_command and machine.settings.fleet_role == MANAGER:  # runs what the operator says
        ours.add(f"{machine.project}-fence@.service")
    assert {line.split()[0] for line in listed} == ours


def test_sandboxd_can_do_no_more_than_its_unit_says(machine: Machine) -> None:
    """In its own place: the mounts, the devices and the rights that the running daemon has."""
    pid = machine.out(f"systemctl show {machine.unit('sandboxd')} --property MainPID --value")
    status = dict(line.split(":\t", 1) for line in machine.out(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    rights = machine.out(f"capsh --decode={status['CapBnd']} 2>/dev/null || true").partition("=")[2]
    assert "cap_sys_module" not in rights and int(status["CapBnd"], 16) & (1 << 16) == 0, "CAP_SYS_MODULE"
    inside = f"nsenter --target {pid} --mount --"
    assert machine.run(f"{inside} touch /etc/written /usr/written", check=False).stderr.count("Read-only") == 2
    assert (
        machine.run(f"{inside} touch {machine.settings.state}/written {machine.settings.log}/written").returncode == 0
    )
    machine.run(f"rm {machine.settings.state}/written {machine.settings.log}/written")
    assert "loop0" not in machine.out(f"{inside} ls /dev")


def test_the_gateway_writes_nothing_and_reaches_no_docker(machine: Machine) -> None:
    pid = machine.out("systemctl show haproxy.service --property MainPID --value")
    inside = f"nsenter --target {pid} --mount --"
    done = machine.run("setpriv --reuid haproxy --regid haproxy --init-groups docker ps", check=False)
    assert "permission denied" in done.stderr
    assert "Read-only" in machine.run(f"{inside} touch /etc/haproxy/written", check=False).stderr


# --- sshd ------------------------------------------------------------------------------------------------------------


@contextmanager
def user_with_password(machine: Machine) -> Iterator[str]:
    """A user who may log in by password as far as the host is concerned, and who may use sudo."""
    name = "hardening"
    machine.run(f"useradd --create-home --shell /bin/bash {name} && echo '{name}:{PASSWORD}' | chpasswd")
    machine.run(f"echo '{name} ALL=(ALL) NOPASSWD:ALL' >/etc/sudoers.d/{name}")
    try:
        yield name
    finally:
        machine.run(
            f"rm -f /etc/sudoers.d/{name}; pkill -u {name}; userdel --remove --force {name} 2>/dev/null || true"
        )


def login(machine: Machine, user: str, **how: object) -> None:
    """Raises paramiko.AuthenticationException."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    place = {"hostname": machine.target.address, "port": machine.target.port, "username": user, "timeout": 30}
    try:
        client.connect(**{**place, "allow_agent": False, "look_for_keys": False, **how})  # type: ignore[arg-type]
    finally:
        client.close()


def sshd(machine: Machine) -> dict[str, str]:
    return access.effective(machine.out("sshd -T"))


def test_sshd_is_as_the_setting_says(machine: Machine) -> None:
    file = machine.host.file(located(access.TEMPLATE, machine.settings))
    assert file.exists == machine.settings.ssh_hardening
    found = sshd(machine)
    assert found["pubkeyauthentication"] == "yes"
    for key, value in access.DIRECTIVES.items() if machine.settings.ssh_hardening else ():
        # sshd has another name for this value.
        assert found[key.lower()] in (value, {"prohibit-password": "without-password"}.get(value)), key


@pytest.mark.disruptive
def test_a_password_does_not_open_the_host(machine: Machine) -> None:
    """Neither a user's, nor root's; a key does."""
    assert machine.settings.ssh_hardening, "the labs of this suite have it on"
    with user_with_password(machine) as user:
        for name in (user, "root"):
            with pytest.raises(paramiko.BadAuthenticationType) as refused:
                login(machine, name, password=PASSWORD)
            assert refused.value.allowed_types == ["publickey"]
        login(machine, machine.target.user, key_filename=machine.target.key)


@pytest.mark.disruptive
def test_whoever_would_be_locked_out_is_stopped_before_the_first_change(machine: Machine) -> None:
    """A deploy by password, to a host that takes passwords still."""
    file = located(access.TEMPLATE, machine.settings)
    machine.run(f"rm {file} && {access.RELOAD}")
    with user_with_password(machine) as user:
        eventually(lambda: accepted(machine, user), bool, 30, "login by password")
        damaged = "/etc/cron.d/" + machine.settings.name + "-cleanup"
        machine.run(f"rm {damaged}")
        settings = {
            **machine.target.settings,
            "extra_ca_certificates": ",".join(machine.settings.extra_ca_certificates),
            "sysctls": json.dumps(machine.settings.sysctls),
            "ssh_password": PASSWORD,
            "ssh_known_hosts_file": machine.target.known_hosts,
        }
        done = machine.pyinfra(
            "deploy.py",
            "--yes",
            "--fail-percent",
            "0",
            HOST=f"{user}@{machine.target.address}:{machine.target.port}",
            SSH_KEY="",
            SSH_AUTH_SOCK="",
            DOMAIN=machine.settings.domain,
            SET=" ".join(shlex.quote(f"{key}={value}") for key, value in settings.items()),
        )
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "would lock you out" in said and f"{user} does not log in by key alone" in said, said[-3000:]
        assert not machine.host.file(file).exists and not machine.host.file(damaged).exists, "nothing was changed"
        assert accepted(machine, user)
    assert machine.deploy().changed == [
        f"Cleanup | Write {damaged}",
        f"Access | Write {file}",
        "Access | Let sshd read it",
    ]
    assert machine.deploy().changed == []


def accepted(machine: Machine, user: str) -> bool:
    with suppress(paramiko.SSHException, OSError):  # an sshd that reads its files anew closes its port for a moment
        login(machine, user, password=PASSWORD)
        return True
    return False


@pytest.mark.disruptive
def test_what_sshd_would_not_take_is_found_before_the_first_change(machine: Machine) -> None:
    """A line in another file, which sshd has not read yet, and at which it would not come up again."""
    other = "/etc/ssh/sshd_config.d/20-broken.conf"
    machine.run(f"echo 'NoSuchKeyword yes' >{other}")
    try:
        done = machine.pyinfra("deploy.py", "--yes", "--fail-percent", "0")
        said = done.stdout + done.stderr
        assert done.returncode != 0 and "sshd would not take the configuration" in said and "20-broken.conf" in said
    finally:
        machine.run(f"rm {other}")
    assert machine.deploy().changed == []


@pytest.mark.disruptive
def test_switched_off_it_goes_away_and_no_session_ends(machine: Machine) -> None:
    file = located(access.TEMPLATE, machine.settings)
    before = machine.out("systemctl show ssh.service --property MainPID --value")
    report = machine.deploy("--data", "ssh_hardening=false")
    assert report.changed == ["Access | Open sshd as it was"]
    assert not machine.host.file(file).exists and sshd(machine)["passwordauthentication"] == "yes"
    assert machine.deploy().changed == [f"Access | Write {file}", "Access | Let sshd read it"]
    assert machine.out("systemctl show ssh.service --property MainPID --value") == before, "reloaded, not restarted"


# --- Updates and logs ------------------------------------------------------------------------------------------------

# A repository on the host's disk that passes for Debian's security updates, with a new version of each named package.
REPOSITORY = r"""
set -eu
top=/srv/hardening
rm -rf $top; mkdir -p $top; cd $top
for package in PACKAGES; do
    mkdir -p tree/DEBIAN
    printf '%s\n' "Package: $package" "Version: 9999:1" "Architecture: all" "Maintainer: Nobody <nobody@example.org>" \
        "Description: of a test, never installed" >tree/DEBIAN/control
    dpkg-deb --root-owner-group -Zgzip -b tree "$package.deb" >/dev/null
    { cat tree/DEBIAN/control; printf '%s\n' "Filename: ./$package.deb" "Size: $(stat -c %s $package.deb)" \
        "SHA256: $(sha256sum <$package.deb | cut -d' ' -f1)" ""; } >>Packages
    rm -r tree
done
suite=$(. /etc/os-release; echo $VERSION_CODENAME)
{ printf '%s\n' "Origin: Debian" "Label: Debian-Security" "Suite: stable-security" "Codename: $suite-security" \
    "Date: $(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S UTC')" "SHA256:"
  echo " $(sha256sum <Packages | cut -d' ' -f1) $(stat -c %s Packages) Packages"; } >Release
echo "deb [trusted=yes] file:$top ./" >/etc/apt/sources.list.d/hardening.list
apt-get update -qq -o Dir::Etc::SourceList=/etc/apt/sources.list.d/hardening.list -o Dir::Etc::SourceParts=- \
    -o APT::Get::List-Cleanup=0
"""
FORGET = "rm -rf /srv/hardening /etc/apt/sources.list.d/hardening.list /var/lib/apt/lists/_srv_hardening*"


@pytest.mark.disruptive
def test_an_update_at_night_leaves_the_engine_and_the_gateway_alone(machine: Machine) -> None:
    """unattended-upgrade itself, told that there is a new version of each; cron shows that it would upgrade at all."""
    engine = ["docker.io", "containerd", "runc", "crun", "haproxy"]
    machine.run(REPOSITORY.replace("PACKAGES", " ".join([*engine, "cron"])))
    try:
        offered = machine.out(f"apt-cache policy {' '.join(engine)} cron").count("Candidate: 9999:1")
        said = machine.run("unattended-upgrade --dry-run --debug 2>&1").stdout
    finally:
        machine.run(FORGET)
    assert offered == len(engine) + 1
    applied = set(re.findall(r"'([^']+)'", " ".join(re.findall(r"^applying set \[(.*)\]$", said, re.MULTILINE))))
    assert "cron" in applied and not applied & set(engine), said[-3000:]


def test_needrestart_would_restart_none_of_ours(machine: Machine) -> None:
    """Its configuration is a program in Perl, which is run here as it runs it."""
    file = located(hardening.NEEDRESTART, machine.settings)
    names = ["docker.service", "containerd.service", "haproxy.service", machine.unit("sandboxd"), "cron.service"]
    program = (
        "our %nrconf; do $ARGV[0]; die $@ if $@; shift; "
        "for my $name (@ARGV) { for my $re (keys %{$nrconf{override_rc}}) "
        '{ print "$name\\n" if $name =~ /$re/ && !$nrconf{override_rc}{$re} } }'
    )
    left_alone = machine.out(f"perl -e {shlex.quote(program)} {file} {' '.join(names)}").splitlines()
    assert left_alone == names[:-1]


def test_the_journal_is_bounded(machine: Machine) -> None:
    """As journald itself said when it opened it."""
    lines = machine.out(f"journalctl MESSAGE_ID={JOURNAL_STARTED} --output json --lines 20").splitlines()
    said = [entry for entry in map(json.loads, lines) if entry["JOURNAL_NAME"] == "System Journal"]
    wanted = machine.settings.journal_max_size
    most = int(wanted[:-1]) * UNITS[wanted[-1]] if wanted else 4 << 30
    assert int(said[-1]["MAX_USE"]) <= most


def test_every_log_that_grows_has_a_bound(machine: Machine) -> None:
    """The engine's, for each container; ours, by logrotate."""
    found = json.loads(machine.out("docker inspect $(docker ps -q) || true"))  # one of them may end meanwhile
    assert found
    for one in found:
        assert "max-size" in one["HostConfig"]["LogConfig"]["Config"], one["Name"]
    rotated = machine.out(f"cat /etc/logrotate.d/{machine.settings.name}")
    logs = machine.out(f"find /var/log/{machine.settings.name}* -type f -name '*.log'").split()
    assert [log for log in logs if log not in rotated] == []


# --- Kernel, audit, Docker's socket ----------------------------------------------------------------------------------


def finding(machine: Machine, name: str) -> dict[str, str]:
    return machine.findings()[name]


def test_doctor_sees_the_kernel_and_the_socket(machine: Machine) -> None:
    assert finding(machine, "kernel")["level"] == "ok"
    assert finding(machine, "docker-socket")["level"] == "ok"


def test_bridges_of_sandboxes_send_no_redirects(machine: Machine) -> None:
    if machine.settings.sysctls.get("net.ipv4.conf.default.send_redirects") != 0:
        return
    with machine.sandbox() as sandbox:
        (network,) = sandbox.inspect()["NetworkSettings"]["Networks"]
        options = json.loads(machine.out(f"docker network inspect {network}"))[0]["Options"]
        bridge = options["com.docker.network.bridge.name"]
        for key in ("send_redirects", "accept_redirects", "accept_source_route"):
            assert machine.out(f"cat /proc/sys/net/ipv4/conf/{bridge}/{key}") == "0", key


@pytest.mark.disruptive
def test_a_parameter_that_the_kernel_does_not_have_is_told_and_no_trouble(machine: Machine) -> None:
    asked = json.dumps({**machine.settings.sysctls, "kernel.no_such_parameter": 1})
    report = machine.deploy("--data", f"sysctls={asked}")
    assert report.changed == [f"Base | Write /etc/sysctl.d/60-{machine.settings.name}.conf"]
    assert machine.deploy("--data", f"sysctls={asked}").changed == []
    seen = finding(machine, "kernel")
    assert seen["level"] == "ok" and "does not have kernel.no_such_parameter" in seen["seen"]
    assert machine.deploy().changed == report.changed


@pytest.mark.disruptive
def test_a_parameter_that_somebody_changed_is_told_and_mended(machine: Machine) -> None:
    key = "net.ipv4.conf.all.accept_redirects"
    machine.run(f"sysctl -qw {key}=1")
    assert finding(machine, "kernel")["seen"] == f"{key} = 1, not 0"
    assert machine.deploy().changed == ["Base | Apply kernel parameters"]
    assert machine.out(f"sysctl -n {key}") == "0"


def test_the_group_docker_is_of_no_use(machine: Machine) -> None:
    """A process with that group, and nothing else, asks the engine."""
    done = machine.run("setpriv --reuid nobody --regid docker --clear-groups docker ps", check=False)
    assert ("permission denied" in done.stderr) == (not machine.settings.docker_group), done.stderr


@pytest.mark.disruptive
def test_a_socket_that_somebody_opened_is_told_and_closed(machine: Machine) -> None:
    machine.run("chmod 666 /run/docker.sock")
    assert finding(machine, "docker-socket")["level"] == "fail"
    assert machine.deploy().changed == ["Docker | Keep the socket to root"]
    assert machine.out("stat -c '%U:%G %a' /run/docker.sock") == "root:root 600"


@pytest.mark.disruptive
def test_the_socket_is_made_anew_as_it_was(machine: Machine) -> None:
    """By systemd; sandboxes run on meanwhile."""
    with machine.sandbox() as sandbox:
        machine.run("systemctl stop docker.socket docker.service && systemctl start docker.socket docker.service")
        assert machine.out("stat -c '%U:%G %a' /run/docker.sock") == "root:root 600"
        assert eventually(lambda: sandbox.run("echo alive", check=False).stdout, bool, 60, "sandbox") == "alive\n"
    assert machine.deploy().changed == []


def test_audit_rules_are_where_audit_is(machine: Machine) -> None:
    has_audit = machine.run(hardening.HAS_AUDIT, check=False).stdout.strip() == "yes"
    wanted = machine.settings.audit_rules and has_audit
    assert machine.host.file(located(hardening.AUDIT, machine.settings)).exists == wanted
    if wanted:
        assert f"-F key={machine.project}-socket" in machine.out("auditctl -l")


@pytest.mark.disruptive
def test_without_audit_in_the_kernel_a_deploy_says_so_and_makes_nothing(machine: Machine) -> None:
    if machine.run(hardening.HAS_AUDIT, check=False).stdout.strip() == "yes":
        pytest.fail("this host has audit: it is no lab", pytrace=False)
    done = machine.pyinfra("deploy.py", "--dry", "--data", "audit_rules=true")
    assert done.returncode == 0 and "no audit of its own" in done.stdout + done.stderr
    assert machine.deploy("--data", "audit_rules=true").changed == []
