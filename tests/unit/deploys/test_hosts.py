"""How hosts are named: HOST, SSH_PORT, SSH_KEY, DOMAIN and SET; `hosts.toml`; the lab when nothing is named."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import InventoryError

import lab
from deploys import ROOT, hosts
from deploys.hosts import HostError, Target, targets
from deploys.settings import SettingError
from tests.unit.ports import nobody

ABSENT = Path("/none/hosts.toml")


def named(**environ: str) -> list[Target]:
    """The targets of an environment, without any `hosts.toml`."""
    return targets(environ, ABSENT)


def only(**environ: str) -> Target:
    (target,) = named(**environ)
    return target


def refusal(**environ: str) -> str:
    with pytest.raises(HostError) as caught:
        named(**environ)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hosts.toml"


# --- HOST ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "address", "user", "port"),
    [
        ("root@203.0.113.7", "203.0.113.7", "203.0.113.7", "root", 22),
        ("203.0.113.7", "203.0.113.7", "203.0.113.7", "root", 22),
        ("debian@box.example.com:2222", "box.example.com", "box.example.com", "debian", 2222),
        ("box", "box", "box", "root", 22),
        ("[2001:db8::7]", "2001:db8::7", "2001:db8::7", "root", 22),
        ("ops@[2001:DB8::7]:2222", "2001:DB8::7", "2001:DB8::7", "ops", 2222),
    ],
)
def test_one_host(text: str, name: str, address: str, user: str, port: int) -> None:
    target = only(HOST=text)
    assert (target.name, target.address, target.user, target.port, target.group) == (
        name,
        address,
        user,
        port,
        "servers",
    )


@pytest.mark.parametrize("text", ["root@a ops@b:2222", "root@a,ops@b:2222", "  root@a ,\n ops@b:2222  "])
def test_several_hosts(text: str) -> None:
    assert [(found.user, found.address, found.port) for found in named(HOST=text)] == [
        ("root", "a", 22),
        ("ops", "b", 2222),
    ]


def test_one_address_with_two_ports_is_two_hosts() -> None:
    """pyinfra would drop one of two hosts of the same name without a word."""
    assert [found.name for found in named(HOST="a:2201 a:2202 b")] == ["a-2201", "a-2202", "b"]


def test_ssh_port_holds_where_a_host_names_none() -> None:
    assert [found.port for found in named(HOST="a b:2222", SSH_PORT="2200")] == [2200, 2222]


def test_ssh_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert only(HOST="a", SSH_KEY="~/key").key == str(tmp_path / "key")


def test_domain_and_set_are_settings_of_every_host() -> None:
    found = named(HOST="a b", DOMAIN="example.com", SET="pool_size=1 cleanup_schedule='0 3 * * *' base_image=")
    expected = {"domain": "example.com", "pool_size": "1", "cleanup_schedule": "0 3 * * *", "base_image": ""}
    assert [target.settings for target in found] == [expected, expected]


def test_settings_from_the_command_line_reach_the_deploy() -> None:
    settings = only(HOST="a", DOMAIN="example.com", SET="pool_size=1 unattended_upgrades=no").load_settings()
    assert (settings.domain, settings.pool_size, settings.unattended_upgrades) == ("example.com", 1, False)


def test_the_domain_by_address_is_that_of_each_host() -> None:
    one, two = named(HOST="203.0.113.7 admin@203.0.113.8:2222", DOMAIN="sslip.io")
    assert one.load_settings().domain == "203-0-113-7.sslip.io"
    assert two.load_settings().domain == "203-0-113-8.sslip.io"
    with pytest.raises(SettingError, match=r"domain = 'sslip.io': needs a host .* not 'box'"):
        only(HOST="box", DOMAIN="sslip.io").load_settings()


def test_a_host_without_domain_is_refused() -> None:
    with pytest.raises(SettingError, match=r"domain = ''.*DOMAIN=example.com"):
        only(HOST="root@203.0.113.7").load_settings()


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"HOST": "root@"}, ["'root@'", "[user@]host[:port]", "root@203.0.113.7"]),
        ({"HOST": "a:b"}, ["'a:b'", "[user@]host[:port]"]),
        ({"HOST": "2001:db8::7"}, ["'2001:db8::7'", "IPv6 in brackets"]),
        ({"HOST": "ssh://a"}, ["'ssh://a'", "[user@]host[:port]"]),
        ({"HOST": "a b;reboot"}, ["'b;reboot'"]),
        ({"HOST": "a:0"}, ["'a:0'", "port 0", "between 1 and 65535"]),
        ({"HOST": "a:65536"}, ["port 65536", "between 1 and 65535"]),
        ({"HOST": "a", "SSH_PORT": "ssh"}, ["port ssh", "between 1 and 65535"]),
        ({"HOST": "a", "SSH_KEY": "/none"}, ["there is no SSH key /none"]),
        ({"HOST": "a root@a"}, ["'a'", "named twice"]),
        ({"HOST": "a", "SET": "pool_size"}, ["'pool_size'", "key=value"]),
        ({"HOST": "a", "SET": "cleanup_schedule='0 3"}, ["quote"]),
    ],
    ids=lambda value: " ".join(f"{key}={given}" for key, given in value.items()) if isinstance(value, dict) else None,
)
def test_refused(environ: dict[str, str], says: list[str]) -> None:
    message = refusal(**environ)
    assert [words for words in says if words not in message] == [], message


# --- hosts.toml ------------------------------------------------------------------------------------------------------


def test_hosts_toml(file: Path) -> None:
    file.write_text(
        """
        [defaults]
        domain = "example.com"
        port = 2222

        [hosts.one]
        address = "debian@203.0.113.7"
        pool_size = 5

        [hosts."two.example.com"]
        domain = "two.example.com"
        port = 22
        """
    )
    one, two = targets({}, file)
    assert (one.name, one.address, one.user, one.port) == ("one", "203.0.113.7", "debian", 2222)
    assert one.settings == {"domain": "example.com", "pool_size": 5}
    assert (two.name, two.address, two.user, two.port) == ("two.example.com", "two.example.com", "root", 22)
    assert two.settings == {"domain": "two.example.com"}


def test_the_environment_overrides_hosts_toml(file: Path) -> None:
    file.write_text('[hosts.one]\naddress = "203.0.113.7"\ndomain = "example.com"\npool_size = 5\n')
    (one,) = targets({"DOMAIN": "example.org", "SET": "pool_size=1"}, file)
    assert one.settings == {"domain": "example.org", "pool_size": "1"}


def test_host_wins_over_hosts_toml(file: Path) -> None:
    file.write_text("[hosts.one]\n")
    assert [target.name for target in targets({"HOST": "a"}, file)] == ["a"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", 'add a table such as [hosts.sandbox1] with address = "root@203.0.113.7"'),
        ("[hosts", "hosts.toml: "),
        ('[hosts]\none = "root@203.0.113.7"\n', "hosts.one = 'root@203.0.113.7': make it a table"),
        ("hosts = 1\n", "hosts = 1: make it a table"),
        ("defaults = 1\n[hosts.one]\n", "defaults = 1: make it a table"),
        ('[hosts.one]\naddress = "a b"\n', "host 'a b'"),
        ("[hosts.one]\nport = 0\n", "port 0 is not between"),
        ('[hosts.one]\nkey = "/none"\n', "there is no SSH key /none"),
    ],
)
def test_hosts_toml_refused(content: str, says: str, file: Path) -> None:
    file.write_text(content)
    with pytest.raises(HostError) as caught:
        targets({}, file)
    assert says in str(caught.value)


# --- A fleet ---------------------------------------------------------------------------------------------------------


def test_a_fleet_on_the_command_line() -> None:
    one, two, three = named(WORKERS="root@192.0.2.12,ops@192.0.2.13:2222", MANAGERS="root@192.0.2.11")
    nodes = {
        "192.0.2.11": {"role": "manager", "address": "192.0.2.11"},
        "192.0.2.12": {"role": "worker", "address": "192.0.2.12"},
        "192.0.2.13": {"role": "worker", "address": "192.0.2.13"},
    }
    assert one.settings == {"fleet_role": "manager", "fleet_address": "192.0.2.11", "fleet_nodes": nodes}
    assert three.settings == {"fleet_role": "worker", "fleet_address": "192.0.2.13", "fleet_nodes": nodes}
    assert (two.user, three.user, three.port) == ("root", "ops", 2222)


def test_a_fleet_in_hosts_toml(file: Path) -> None:
    file.write_text(
        """
        [defaults]
        domain = "example.com"

        [workers.b]
        address = "root@192.0.2.12"

        [managers.a]
        address = "root@a.example.com"
        fleet_address = "10.0.0.1"

        [hosts.alone]
        address = "192.0.2.99"
        """
    )
    alone, a, b = targets({"SET": "pool_size=1"}, file)
    nodes = {"a": {"role": "manager", "address": "10.0.0.1"}, "b": {"role": "worker", "address": "192.0.2.12"}}
    assert list(nodes) == list(a.settings["fleet_nodes"])
    common = {"domain": "example.com", "pool_size": "1"}
    assert alone.settings == common
    assert a.settings == common | {"fleet_role": "manager", "fleet_address": "10.0.0.1", "fleet_nodes": nodes}
    assert b.settings == common | {"fleet_role": "worker", "fleet_address": "192.0.2.12", "fleet_nodes": nodes}
    assert (a.load_settings().fleet_node, b.load_settings().fleet_node) == ("a", "b")


def test_a_host_has_one_role(file: Path) -> None:
    assert "named twice" in refusal(MANAGERS="root@192.0.2.11", WORKERS="192.0.2.11")
    file.write_text('[hosts.a]\naddress = "192.0.2.11"\n[managers.a]\naddress = "192.0.2.12"\n')
    with pytest.raises(HostError, match="names 'a' twice: as a single host, a manager or a worker"):
        targets({}, file)


def test_workers_need_a_manager(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main({"WORKERS": "192.0.2.12", "DOMAIN": "example.com"}) == 2
    assert "a fleet has 1 or 3 managers" in capsys.readouterr().err


def test_a_name_is_no_address_for_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main({"MANAGERS": "a.invalid", "DOMAIN": "example.com"}) == 2
    assert "'a.invalid': is no IPv4 address: give the one that the other hosts reach" in capsys.readouterr().err


def test_hosts_of_a_fleet_must_agree(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(
        '[managers.a]\naddress = "192.0.2.11"\ndomain = "a.example"\n'
        '[workers.b]\naddress = "192.0.2.12"\ndomain = "b.example"\n'
    )
    monkeypatch.setattr(hosts, "targets", lambda environ: targets(environ, file))
    assert hosts.main({}) == 2
    assert "error: domain is not the same on a and b: 'a.example' and 'b.example'" in capsys.readouterr().err


def test_a_fleet_of_labs(asked: list[str]) -> None:
    one, two = hosts.chosen({"MANAGERS": "lab:fa", "WORKERS": "root@192.0.2.12"})
    assert asked == ["fa"]
    assert (one.name, one.group, one.address, one.known_hosts) == ("fa", "lab", "172.17.0.2", "/known_hosts")
    assert two.settings["fleet_nodes"]["fa"] == {"role": "manager", "address": "172.17.0.2"}
    assert one.load_settings().domain == "lab.test"


def test_a_lab_by_its_name(asked: list[str]) -> None:
    (one,) = hosts.chosen({"HOST": "lab:fa"})
    assert (one.name, one.group, one.settings) == ("fa", "lab", {})
    (one,) = hosts.chosen({"HOST": "lab:22"})
    assert (one.name, one.group, one.port) == ("lab", "servers", 22), "a host called lab"


# --- The lab ---------------------------------------------------------------------------------------------------------


class Running:
    """A lab that is up."""

    def pyinfra_data(self) -> dict[str, Any]:
        return {
            "ssh_hostname": "172.17.0.2",
            "ssh_port": 22,
            "ssh_user": "root",
            "ssh_key": "/key",
            "ssh_known_hosts_file": "/known_hosts",
            "ssh_strict_host_key_checking": "yes",
        }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the labs that were looked for; each is up."""
    names: list[str] = []

    def find(name: str) -> Running:
        names.append(name)
        return Running()

    monkeypatch.setattr(lab, "find", find)
    monkeypatch.setattr(hosts, "targets", lambda environ: targets(environ, ABSENT))
    return names


@pytest.mark.parametrize(("environ", "name"), [({}, "lab"), ({"LAB": "two"}, "two"), ({"LAB": "", "HOST": " "}, "lab")])
def test_the_lab_when_no_host_is_named(environ: dict[str, str], name: str, asked: list[str]) -> None:
    (target,) = hosts.chosen(environ)
    assert asked == [name]
    assert (target.name, target.address, target.key, target.group) == (name, "172.17.0.2", "/key", "lab")
    assert target.load_settings().domain == "lab.test"


def test_no_lab_is_looked_for_when_a_host_is_named(asked: list[str]) -> None:
    assert [target.name for target in hosts.chosen({"HOST": "a"})] == ["a"]
    assert asked == []


def test_settings_hold_for_the_lab_too(asked: list[str]) -> None:
    (target,) = hosts.chosen({"SET": "pool_size=1", "DOMAIN": "lab.example"})
    assert (target.load_settings().pool_size, target.load_settings().domain) == (1, "lab.example")


@pytest.mark.parametrize("error", [lab.NoSuchLab("no lab named lab", "run: make lab"), lab.LabError("lab is stopped")])
def test_neither_host_nor_lab(error: lab.LabError, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> None:
        raise error

    monkeypatch.setattr(lab, "find", find)
    with pytest.raises(HostError) as caught:
        hosts.lab_target({})
    assert str(error) in str(caught.value)
    assert "HOST=root@server" in str(caught.value)


# --- What others make of a target ------------------------------------------------------------------------------------


def test_pyinfra_data_of_root() -> None:
    data = only(HOST="root@a:2222", DOMAIN="example.com").pyinfra_data()
    assert data == {"ssh_hostname": "a", "ssh_user": "root", "ssh_port": 2222, "domain": "example.com"}


def test_another_user_uses_sudo() -> None:
    assert only(HOST="debian@a").pyinfra_data()["_sudo"] is True


def test_a_known_host_key_is_demanded(asked: list[str]) -> None:
    (target,) = hosts.chosen({})
    assert target.pyinfra_data()["ssh_strict_host_key_checking"] == "yes"
    assert "  StrictHostKeyChecking yes\n" in target.ssh_config("/mux")


def test_ssh_config(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    assert only(HOST="ops@a:2222", SSH_KEY=str(tmp_path / "key")).ssh_config("/mux").splitlines() == [
        "Host a",
        "  HostName a",
        "  User ops",
        "  Port 2222",
        f"  IdentityFile {tmp_path}/key",
        "  StrictHostKeyChecking accept-new",
        "  BatchMode yes",
        "  ControlMaster auto",
        "  ControlPersist 60",
        "  ControlPath /mux",
    ]


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("HOST", "MANAGERS", "WORKERS", "SSH_PORT", "SSH_KEY", "DOMAIN", "SET", "LAB"):
        monkeypatch.delenv(key, raising=False)


def test_the_inventory_puts_servers_and_the_lab_in_groups(
    in_root: None, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = runpy.run_path(str(ROOT / "inventory.py"))
    assert [name for name, _ in inventory["lab"]] == ["lab"]
    assert inventory["servers"] == []
    monkeypatch.setenv("HOST", "ops@a")
    inventory = runpy.run_path(str(ROOT / "inventory.py"))
    assert inventory["servers"] == [("a", {"ssh_hostname": "a", "ssh_user": "ops", "ssh_port": 22, "_sudo": True})]
    assert inventory["lab"] == []


def test_a_fleet_of_labs_is_in_their_group(in_root: None, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANAGERS", "lab:fa")
    monkeypatch.setenv("WORKERS", "192.0.2.12")
    inventory = runpy.run_path(str(ROOT / "inventory.py"))
    assert ([name for name, _ in inventory["lab"]], [name for name, _ in inventory["servers"]]) == (
        ["fa"],
        ["192.0.2.12"],
    )


def test_the_inventory_says_what_is_wrong(in_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "root@")
    with pytest.raises(InventoryError, match=r"write it as \[user@\]host"):
        runpy.run_path(str(ROOT / "inventory.py"))


# --- `python -m deploys.hosts` ---------------------------------------------------------------------------------------


def test_a_host_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert hosts.main({"HOST": f"127.0.0.1:{server.getsockname()[1]}", "DOMAIN": "example.com"}) == 0


def test_a_host_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with nobody() as (_, port):
        assert hosts.main({"HOST": f"127.0.0.1:{port}", "DOMAIN": "example.com"}) == 1
    message = capsys.readouterr().err
    says = ["127.0.0.1", f"port {port}", "refused", "SSH_PORT=", "nothing was changed"]
    assert [words for words in says if words not in message] == [], message


def test_bad_input_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main({"HOST": "root@"}) == 2
    assert capsys.readouterr().err.startswith("error: host 'root@': write it as")


def test_settings_are_checked_before_anything_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main({"HOST": "one.invalid two.invalid"}) == 2
    message = capsys.readouterr().err
    assert "error: one.invalid: domain = ''" in message and "error: two.invalid: domain = ''" in message
    assert "no answer" not in message
    assert hosts.main({"HOST": "one.invalid", "DOMAIN": "example.com", "SET": "pool_sise=3"}) == 2
    assert "pool_sise = '3': unknown setting (did you mean pool_size?)" in capsys.readouterr().err


def test_paramiko_gets_its_file_of_known_hosts(tmp_path: Path) -> None:
    """On a workstation that never used SSH there is none, and paramiko fails to add the first key."""
    environment = os.environ | {"HOME": str(tmp_path)}
    pyinfra = Path(sys.executable).with_name("pyinfra")
    subprocess.run([str(pyinfra), "@local", "fact", "server.Hostname"], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / ".ssh/known_hosts").stat().st_mode & 0o777 == 0o600
