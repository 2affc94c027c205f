"""The workstation's Debian archive."""

from lab import mirror
from lab.errors import LabError
from lab.mirror import Mirror
from tests.unit.lab.conftest import Machine

OUTPUT = """\
Debian Debian https://mirror.example/debian/
Debian Debian http://second.example/debian/
Debian Debian-Security https://mirror.example/debian-security/
Debian Debian file:/srv/local/
Example Example https://other.example/
"""


def test_the_first_archive_of_each_kind_counts() -> None:
    assert mirror.parse(OUTPUT) == Mirror("https://mirror.example/debian", "https://mirror.example/debian-security")


def test_defaults_where_the_workstation_has_none() -> None:
    assert mirror.parse("Ubuntu Ubuntu http://ubuntu.example/ubuntu/\n") == Mirror()
    assert mirror.parse("Debian Debian http://mirror.example/debian/\n").security == Mirror().security


def test_another_system_has_no_apt(machine: Machine) -> None:
    def absent() -> tuple[int, str, str]:
        raise LabError("apt-get is not installed")

    machine.script.append((("apt-get",), absent))
    assert mirror.detect() == Mirror()


def test_sources_of_a_suite() -> None:
    assert Mirror("http://m.example/debian", "http://s.example/sec").sources("bookworm") == [
        "deb http://m.example/debian bookworm main",
        "deb http://m.example/debian bookworm-updates main",
        "deb http://s.example/sec bookworm-security main",
    ]
