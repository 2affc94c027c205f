"""Where the servers are, from the file that the deploy renders."""

from pathlib import Path

import pytest

from sandboxd import config as daemon
from sandboxd.cli import place
from sandboxd.cli.exits import CliError

WHOLE = """
project = "acme"
domain = "example.com"
state_dir = "/var/lib/acme"
secrets_dir = "/etc/acme"
socket = "/run/acme.sock"
socket_group = "sandbox"
listen = "127.0.0.1:8090"
default_template = "base"
default_port = 8000
create_parallelism = 2
[gateway]
address = "127.0.0.1:8081"
admin_socket = "/run/admin.sock"
routes_map = "/var/lib/acme/routes.map"
[pool]
size = 3
[templates.base]
image = "base:1"
memory_mb = 2048
cpus = 2.0
pids = 1024
"""


def test_it_reads_what_the_daemon_reads(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(WHOLE)
    found = place.read(str(file))
    assert found == ("/run/acme.sock", ("127.0.0.1", 8081))
    theirs = daemon.load(file)
    assert (str(theirs.socket), theirs.gateway.address) == found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"", "'gateway'"),
        (b"socket = ", "no usable socket"),
        (b"socket = '/x'\n[gateway]\naddress = 5", "no usable socket"),
        (b"socket = '/x'\n[gateway]\naddress = 'host'", "no usable socket"),
        (b"socket = '/x'\ngateway = 'x'", "no usable socket"),
        (b"[gateway]\naddress = 'a:1'", "'socket'"),
        (b"\xff", "no usable socket"),
    ],
)
def test_a_file_that_is_not_the_deploys(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CliError) as caught:
        place.read(str(file))
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and words in message and message.endswith("run the deploy.")
    assert caught.value.exit_code == 1
