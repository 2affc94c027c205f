"""Where the servers are, from the file that the deploy renders."""

from pathlib import Path

import pytest

from sandboxd import config as daemon
from sandboxd.cli import place
from sandboxd.cli.exits import CliError
from tests.unit.sandboxd.test_config import GOOD


def test_it_reads_what_the_daemon_reads(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(GOOD)
    found = place.read(str(file))
    assert found == ("/run/acme/sandboxd.sock", ("127.0.0.1", 8081))
    theirs = daemon.load(file)
    assert (str(theirs.socket), theirs.gateway.address) == found


def test_what_is_for_the_browser_is_passed_over_by_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    table = '[browser]\ntemplate = "playwright"\nscripts = "/usr/local/lib/acme/browser-test"\nauthority = ""\n'
    file.write_text(GOOD + table)
    assert place.read_browser(str(file)) == ("playwright", "/usr/local/lib/acme/browser-test", "")
    assert place.read(str(file)).socket == "/run/acme/sandboxd.sock"
    daemon.load(file)


@pytest.mark.parametrize("table", ["", "[browser]\ntemplate = 'x'", "browser = 5"])
def test_a_host_of_an_earlier_release(tmp_path: Path, table: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(table)
    with pytest.raises(CliError, match=r"no usable table \[browser\] in it .* run the deploy\.$"):
        place.read_browser(str(file))


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


def test_templates(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    assert place.templates(str(file)) == []
    file.write_text(GOOD)
    assert place.templates(str(file)) == sorted(daemon.load(file).templates) != []
    for content in ("templates = 5", "socket = '/x'", "nonsense"):
        file.write_text(content)
        assert place.templates(str(file)) == []
