"""The daemon's configuration: each complaint names file, key, value and remedy."""

import tomllib
from pathlib import Path

import pytest

from sandboxd import config
from sandboxd.config import Template, load
from sandboxd.errors import ConfigError

GOOD = """
project = "acme"
domain = "example.com"
state_dir = "/var/lib/acme"
secrets_dir = "/etc/acme/secrets"
socket = "/run/acme/sandboxd.sock"
socket_group = "sandbox"
listen = "127.0.0.1:8090"
default_template = "base"
default_port = 8000
create_parallelism = 2
[gateway]
address = "127.0.0.1:8081"
admin_socket = "/run/haproxy/admin.sock"
routes_map = "/var/lib/acme/routes.map"
[pool]
size = 3
[templates.base]
image = "acme-sandbox:1"
memory_mb = 2048
cpus = 2.0
pids = 1024
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_a_good_file(file: Path) -> None:
    file.write_text(GOOD)
    loaded = load(file)
    assert loaded.templates == {"base": Template("base", "acme-sandbox:1", 2048, 2.0, 1024)}
    assert loaded.gateway.address == ("127.0.0.1", 8081) and loaded.pool_size == 3
    assert loaded.ledger == Path("/var/lib/acme/ledger.sqlite")
    assert loaded.url("4f1c0a9be2d7") == "https://qa-4f1c0a9be2d7.example.com"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('project = "acme"', 'project = "Acme"', "project = 'Acme': must be 1 to 31"),
        ('domain = "example.com"', 'domain = "EXAMPLE"', "domain = 'EXAMPLE'"),
        ('domain = "example.com"', "", "domain is missing"),
        ('state_dir = "/var/lib/acme"', 'state_dir = "lib"', "state_dir = 'lib': must be an absolute path"),
        ('listen = "127.0.0.1:8090"', 'listen = "8090"', "listen = '8090': must look like"),
        ('default_template = "base"', 'default_template = "b"', "must name one of the templates (base)"),
        ("default_port = 8000", "default_port = 0", "default_port = 0: must be a whole number from 1 to 65535"),
        ("default_port = 8000", "default_port = true", "default_port = True"),
        ("size = 3", "size = -1", "pool.size = -1"),
        ("size = 3", "size = 3\nsise = 4", "pool.sise = 4: is no key of this release. Known here: size."),
        ("cpus = 2.0", 'cpus = "two"', "templates.base.cpus = 'two'"),
        ("pids = 1024", 'pids = 1024\nseccomp = "x.json"', "templates.base.seccomp = 'x.json'"),
        ("[pool]\nsize = 3", "pool = 3", "gateway.pool = 3: is no key"),
    ],
)
def test_what_is_wrong_is_named(file: Path, before: str, after: str, says: str) -> None:
    assert before in GOOD
    file.write_text(GOOD.replace(before, after))
    with pytest.raises(ConfigError) as error:
        load(file)
    if "gateway.pool" in says:  # moved into the table before it: the missing table is seen first
        assert "pool is missing" in str(error.value)
    else:
        assert says in str(error.value)
    assert str(file) in str(error.value) and "deploy again" in str(error.value)


def test_a_file_that_is_no_toml_or_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*Deploy the host"):
        load(file)
    file.write_text("project = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
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


def test_the_example_above_is_toml() -> None:
    assert tomllib.loads(GOOD)["project"] == "acme"
