"""fleet.toml: what is read of it, and how it is refused."""

from pathlib import Path

import pytest

from fleet import config
from fleet.config import Fencing, Host, Share, Size
from sandboxd.errors import ConfigError

TEXT = """\
project = "acme"
domain = "example.com"
node = "a"
listen = "127.0.0.1:8090"
socket = "/run/acme-sandbox/api.sock"
socket_group = "acme-sandbox"
default_template = "base"
engine = "/run/acme-swarmd.sock"
lease_image = "acme-lease:1"
lease_memory_share = 0.5
lease_cpus_share = 0.1
map = "/var/lib/acme-sandbox/nodes.map"
admin = "/run/haproxy/admin.sock"

[templates.base]
memory_mb = 2048
cpus = 2.0

[nodes.a]
role = "manager"
address = "10.231.0.11"
socket = "/run/acme-sandbox/nodes/a.sock"

[nodes.b]
role = "worker"
address = "10.231.0.12"
socket = "/run/acme-sandbox/nodes/b.sock"
"""


def load(tmp_path: Path, text: str = TEXT) -> config.Config:
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    return config.load(file)


def test_all_of_it(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert (found.project, found.domain, found.node, found.listen) == ("acme", "example.com", "a", ("127.0.0.1", 8090))
    assert found.templates == {"base": Size(2048, 2.0)} and found.managers == ["a"]
    assert found.nodes["b"] == Host("b", "worker", "10.231.0.12", Path("/run/acme-sandbox/nodes/b.sock"))
    assert (found.map, found.admin) == (Path("/var/lib/acme-sandbox/nodes.map"), Path("/run/haproxy/admin.sock"))
    assert (found.engine, found.lease_image) == (Path("/run/acme-swarmd.sock"), "acme-lease:1")
    assert found.lease_share == Share(0.5, 0.1)
    assert (found.socket, found.socket_group) == (Path("/run/acme-sandbox/api.sock"), "acme-sandbox")


def test_who_fences(tmp_path: Path) -> None:
    assert load(tmp_path).fencing == Fencing("")
    table = '\n[fencing]\ncommand = "/usr/local/sbin/fence"\nafter_s = 60\ntimeout_s = 120\n'
    assert load(tmp_path, TEXT + table).fencing == Fencing("/usr/local/sbin/fence", 60, 120)
    with pytest.raises(ConfigError, match="must be the absolute path of a program"):
        load(tmp_path, TEXT + table.replace("/usr/local/sbin/", ""))
    with pytest.raises(ConfigError, match=r"fencing\.before_s = 60: is no key"):
        load(tmp_path, f"{TEXT}{table}before_s = 60\n")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('domain = "example.com"\n', "", "domain is missing"),
        ('role = "worker"', 'role = "other"', "nodes.b.role = 'other': must be manager or worker"),
        ('"10.231.0.12"', '"host"', "nodes.b.address = 'host': must be an IPv4 address"),
        ('node = "a"', 'node = "b"', "node = 'b': must be one of a"),
        ('default_template = "base"', 'default_template = "x"', "default_template = 'x': must be one of base"),
        ("cpus = 2.0", "cpus = 2.0\ncpu = 1", "templates.base.cpu = 1: is no key of this release"),
        ('node = "a"', 'node = "a"\nnodes_map = 1', "nodes_map = 1: is no key of this release"),
        ("memory_mb = 2048", "memory_mb = 2", "templates.base.memory_mb = 2: must be a whole number"),
        (
            "lease_memory_share = 0.5",
            "lease_memory_share = 0",
            "lease_memory_share = 0: must be a number from 0.01 to 1",
        ),
        ("lease_cpus_share = 0.1", "lease_cpus_share = 1.5", "lease_cpus_share = 1.5: must be a number from 0.01 to 1"),
        ("[nodes.a]", "[nodes.a", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=r"fleet\.toml") as error:
        load(tmp_path, TEXT.replace(old, new))
    assert told in str(error.value)


def test_what_a_lease_reserves() -> None:
    assert Share(0.5, 0.1).of(2048, 2.0) == (1024, 0.2)
    assert Share(0.01, 0.01).of(16, 0.01) == (4, 0.001), "the least that Swarm takes"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.toml")
