"""The daemon's configuration: each complaint names file, key, value and remedy."""

import base64
import re
from pathlib import Path

import pytest

from sandboxd import config
from sandboxd.config import Fleet, Template, load
from sandboxd.errors import ConfigError

GOOD = """
project = "acme"
domain = "example.com"
state_dir = "/var/lib/acme"
secrets_dir = "/etc/acme/secrets"
socket = "/run/acme/sandboxd.sock"
socket_group = "sandbox"
listen = "127.0.0.1:8090"
metrics_listen = "127.0.0.1:9464"
audit_log = "/var/log/acme/audit.log"
default_template = "base"
default_port = 8000
create_parallelism = 2
max_sandboxes = 300
memory_reserve_mb = 1024
disk_reserve_mb = 2048
build_timeout_s = 1800
wake_on_visit = true
idle_pause_s = 0
[gateway]
address = "127.0.0.1:8081"
admin_socket = "/run/haproxy/admin.sock"
routes_map = "/var/lib/acme/routes.map"
socket = "/run/acme/gateway.sock"
group = "haproxy"
[network]
mode = "public"
allow = ["10.9.0.0/16"]
deny = []
keys_may_open = false
sources = ["10.200.0.0/16"]
egress_address = "198.18.0.1"
egress_user = "acme-egress"

[proxy]
admin_socket = "/run/acme-egress/admin.sock"
names_map = "/var/lib/acme-sandbox/names.map"

[wanted]
runtime = "crun"
userns_remap = true
console = true
tls_mode = "internal"
[templates.base]
image = "acme-sandbox:1"
memory_mb = 2048
cpus = 2.0
pids = 1024
disk_mb = 10240
layer_mb = 10240
pool = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_a_good_file(file: Path) -> None:
    file.write_text(GOOD)
    loaded = load(file)
    assert loaded.templates == {"base": Template("base", "acme-sandbox:1", 2048, 2.0, 1024, 10240, 10240, pool=3)}
    assert loaded.gateway.address == ("127.0.0.1", 8081) and loaded.max_sandboxes == 300
    assert loaded.ledger == Path("/var/lib/acme/ledger.sqlite")
    assert loaded.url("4f1c0a9be2d7") == "https://qa-4f1c0a9be2d7.example.com"
    assert loaded.url("4f1c0a9be2d7", 5173) == "https://5173-4f1c0a9be2d7.example.com"
    assert loaded.wake_on_visit and loaded.idle_pause_s is None


WRONG = [
    ('project = "acme"', 'project = "Acme"', "project = 'Acme': must be 1 to 31 of a-z, 0-9 and -"),
    ('project = "acme"', "project = 7", "project = 7: must be"),
    ('domain = "example.com"', 'domain = "EXAMPLE"', "domain = 'EXAMPLE': must be a domain name in lower case"),
    ('domain = "example.com"', "", "domain is missing: must be"),
    ('state_dir = "/var/lib/acme"', 'state_dir = "lib"', "state_dir = 'lib': must be an absolute path"),
    ('secrets_dir = "/etc/acme/secrets"', 'secrets_dir = ""', "secrets_dir = '': must be an absolute path"),
    ('socket = "/run/acme/sandboxd.sock"', 'socket = ["/x"]', "socket = ['/x']: must be an absolute path"),
    ('socket_group = "sandbox"', 'socket_group = ""', "socket_group = '': must be a text that is not empty"),
    ('listen = "127.0.0.1:8090"', 'listen = "8090"', "listen = '8090': must look like"),
    ('listen = "127.0.0.1:8090"', 'listen = "127.0.0.1:0"', "with a port from 1 to 65535"),
    ('listen = "127.0.0.1:8090"', 'listen = "127.0.0.1:65536"', "listen = '127.0.0.1:65536': must look like"),
    (
        'metrics_listen = "127.0.0.1:9464"',
        'metrics_listen = "0.0.0.0:9464"',
        "metrics_listen = '0.0.0.0:9464': must be like \"127.0.0.1:9464\"",
    ),
    (
        'metrics_listen = "127.0.0.1:9464"',
        'metrics_listen = "127.0.0.1:0"',
        "metrics_listen = '127.0.0.1:0': must look like",
    ),
    ('audit_log = "/var/log/acme/audit.log"', 'audit_log = ""', "audit_log = '': must be an absolute path"),
    ('default_template = "base"', 'default_template = "b"', "must name one of the templates (base)"),
    ("default_port = 8000", "default_port = 0", "default_port = 0: must be a whole number from 1 to 65535"),
    ("default_port = 8000", "default_port = true", "default_port = True: must be a whole number"),
    ("create_parallelism = 2", "create_parallelism = 2.5", "create_parallelism = 2.5: must be a whole number"),
    ('address = "127.0.0.1:8081"', 'address = ":8081"', "gateway.address = ':8081': must look like"),
    ('admin_socket = "/run/haproxy/admin.sock"', "", "gateway.admin_socket is missing: must be an absolute path"),
    ('routes_map = "/var/lib/acme/routes.map"', "routes_map = 1", "gateway.routes_map = 1: must be an absolute path"),
    ("max_sandboxes = 300", "max_sandboxes = -1", "max_sandboxes = -1: must be a whole number from 0"),
    ("memory_reserve_mb = 1024", "memory_reserve_mb = 0.5", "memory_reserve_mb = 0.5: must be a whole number from 0"),
    ("disk_reserve_mb = 2048", "disk_reserve_mb = -1", "disk_reserve_mb = -1: must be a whole number from 0"),
    ("pool = 3", "pool = -1", "templates.base.pool = -1: must be a whole number from 0 to 1000"),
    ("pool = 3", "pool = 3\npol = 4", "templates.base.pol = 4: is no key of this release"),
    ("[gateway]", "[gate]", "gateway is missing: must be a table"),
    ('image = "acme-sandbox:1"', "", "templates.base.image is missing: must be a text"),
    ("memory_mb = 2048", "memory_mb = 1", "templates.base.memory_mb = 1: must be a whole number from 16"),
    ("cpus = 2.0", 'cpus = "two"', "templates.base.cpus = 'two': must be a number from 0.01"),
    ("cpus = 2.0", "cpus = nan", "templates.base.cpus = nan: must be a number"),
    ("pids = 1024", "pids = 1", "templates.base.pids = 1: must be a whole number from 16"),
    ("layer_mb = 10240", "layer_mb = 0", "templates.base.layer_mb = 0: must be a whole number from 1"),
    ("disk_mb = 10240", "disk_mb = 63", "templates.base.disk_mb = 63: must be a whole number from 64"),
    ("pids = 1024", 'pids = 1024\nseccomp = "x.json"', "templates.base.seccomp = 'x.json': must be the absolute path"),
    ("pids = 1024", "pids = 1024\nruntime = 5", "templates.base.runtime = 5: must be runsc"),
    ("pids = 1024", "pids = 1024\npid = 5", "templates.base.pid = 5: is no key of this release"),
    ("[templates.base]", "colour = 1\n[templates.base]", "wanted.colour = 1: is no key of this release"),
    ("[gateway]", "colour = 1\n[gateway]", ": colour = 1: is no key of this release"),
    ("[templates.base]", "[templates]\nbase = 3\n[pids]", "templates.base = 3: must be a table"),
]


@pytest.mark.parametrize(("before", "after", "says"), WRONG)
def test_what_is_wrong_is_named(file: Path, before: str, after: str, says: str) -> None:
    assert GOOD.count(f"\n{before}\n") == 1
    file.write_text(GOOD.replace(f"\n{before}\n", f"\n{after}\n"))
    with pytest.raises(ConfigError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: ") and says in str(error.value)
    assert str(error.value).endswith("correct the setting there and deploy again.")


def test_every_key_is_required_but_those_that_leave_the_engines_default(file: Path) -> None:
    lines = GOOD.splitlines()
    for number, line in enumerate(lines):
        if " = " in line:
            file.write_text("\n".join(lines[:number] + lines[number + 1 :]))
            with pytest.raises(ConfigError, match=rf"{line.split()[0]} is missing"):
                load(file)


def test_a_file_that_is_no_toml_or_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*Deploy the host"):
        load(file)
    file.write_text("project = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file)


def test_a_host_of_a_fleet(file: Path) -> None:
    file.write_text(GOOD)
    assert load(file).fleet is None
    table = '\n[fleet]\nsocket = "/run/acme/node.sock"\ngroup = "haproxy"\nmanages = true\n'
    table += 'managers = ["a (10.0.0.1)"]\naddresses = ["10.0.0.1"]\nports = [8443]\n'
    file.write_text(GOOD + table)
    assert load(file).fleet == Fleet(Path("/run/acme/node.sock"), "haproxy", True)
    assert (load(file).egress.fleet, load(file).egress.fleet_ports) == (("10.0.0.1/32",), (8443,))
    file.write_text(GOOD + table.replace("8443", "0"))
    with pytest.raises(ConfigError, match=r"fleet\.ports = \[0\]: must be a list of ports, from 1 to 65535"):
        load(file)
    file.write_text(GOOD + table.replace("true", '"yes"'))
    with pytest.raises(ConfigError, match=r"fleet\.manages = 'yes': must be true or false"):
        load(file)
    file.write_text(GOOD + table + "role = 1\n")
    with pytest.raises(ConfigError, match=r"fleet\.role = 1: is no key of this release"):
        load(file)


def test_a_host_with_shared_storage(file: Path) -> None:
    file.write_text(GOOD)
    assert load(file).shared is None
    table = '\n[shared]\ndirectory = "/srv/volumes"\nnode = "a"\n'
    file.write_text(GOOD + table)
    assert load(file).shared == config.Shared(Path("/srv/volumes"), "a")
    file.write_text(GOOD + table + "server = 1\n")
    with pytest.raises(ConfigError, match=r"shared\.server = 1: is no key"):
        load(file)


def test_the_token_key(tmp_path: Path) -> None:
    key = tmp_path / "token_key"
    with pytest.raises(ConfigError, match=r"No such file.*deploy again"):
        config.read_token_key(tmp_path)
    key.write_text("zz")
    with pytest.raises(ConfigError, match="not hexadecimal"):
        config.read_token_key(tmp_path)
    key.write_text("ab" * 31)
    with pytest.raises(ConfigError, match="has 31 bytes, 32 or more"):
        config.read_token_key(tmp_path)
    key.write_text("ab" * 32 + "\n")
    assert config.read_token_key(tmp_path) == b"\xab" * 32


def test_a_template_may_name_profiles_and_a_runtime(file: Path) -> None:
    file.write_text(GOOD + 'seccomp = "/etc/acme/s.json"\napparmor = "acme"\nruntime = "runsc"\n')
    template = load(file).templates["base"]
    assert (template.seccomp, template.apparmor, template.runtime) == ("/etc/acme/s.json", "acme", "runsc")


def test_bytes_that_are_no_text_are_named(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b'project = "\xff"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file)
    (tmp_path / "token_key").write_bytes(b"\xff" * 64)
    with pytest.raises(ConfigError, match="not hexadecimal"):
        config.read_token_key(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("key", "is not `key <Base64>`"),
        ("key !", "is not `key <Base64>`"),
        (f"other {base64.b64encode(b'k' * 32).decode()}", "is not `key <Base64>`"),
        (f"key {base64.b64encode(b'k' * 31).decode()}", "of 32 or more bytes"),
    ],
)
def test_the_key_of_links_is_checked(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "link_key").write_text(content)
    with pytest.raises(ConfigError, match=rf"link_key: .*{re.escape(said)}.* deploy again"):
        config.read_link_key(tmp_path)


def test_the_key_of_links_is_a_map_with_one_entry(tmp_path: Path) -> None:
    (tmp_path / "link_key").write_text(f"key {base64.b64encode(b'k' * 32).decode()}\n")
    assert config.read_link_key(tmp_path) == b"k" * 32
