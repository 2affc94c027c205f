"""What is stopped and started around a restore."""

from pathlib import Path

import pytest

from sandboxd.backup import services
from sandboxd.backup.services import Running, Services, occupants
from sandboxd.errors import Conflict, HostError
from tests.unit.sandboxd.backup.host import Host


def of(host: Host) -> Services:
    return Services(host.places, host.folder / "bin/certificate")


def test_what_was_off_stays_off(host: Host) -> None:
    """The double of systemctl says that the console is off."""
    before = of(host).stop()
    assert before == Running(pool=True, console=False)
    assert "systemctl stop acme-console.service" not in host.calls()


def test_a_console_that_was_on_is_started_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "WATCHED", host.folder / "tls.yml")
    of(host).start(Running(pool=False, console=True))
    assert [call for call in host.calls() if "start" in call] == [
        "systemctl start acme-sandboxd.service",
        "systemctl start acme-console.service",
    ]


def test_traefik_reads_its_store_of_certificates_anew(host: Host) -> None:
    host.config.write_text(host.config.read_text().replace('"internal"', '"acme"'))
    of(host).start(Running(pool=False, console=False))
    assert host.calls()[:2] == ["docker restart traefik", "systemctl start acme-sandboxd.service"]


def test_while_a_disk_is_mounted_nothing_is_put_in_place(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = host.folder / "mountinfo"
    mounts.write_text(f"9 1 7:3 / {host.state}/mounts/data rw shared:2 - ext4 /dev/loop3 rw\n")
    monkeypatch.setattr(services, "MOUNTS", mounts)
    monkeypatch.setattr(services, "UNMOUNT_S", 0.0)
    with pytest.raises(Conflict, match=f"still mounted: {host.state}/mounts/data"):
        of(host).stop()
    again = ["systemctl start acme-sandboxd.service", "systemctl start acme-container-pool.service"]
    assert host.calls()[-2:] == again, "the host goes on as it was"


def test_what_cannot_be_stopped_leaves_the_rest_running(host: Host) -> None:
    systemctl = host.folder / "bin/systemctl"
    refuses = 'case "$*" in "stop acme-sandboxd.service") echo timed out >&2; exit 1 ;; esac\n'
    systemctl.write_text(systemctl.read_text() + refuses)
    with pytest.raises(HostError, match="timed out"):
        of(host).stop()
    assert host.calls()[-1] == "systemctl start acme-container-pool.service"


def test_a_daemon_that_does_not_come_up_is_told(host: Host) -> None:
    (host.folder / "broken").touch()
    with pytest.raises(HostError, match="it does not start"):
        of(host).start_daemon()


def test_who_lives_here(host: Host) -> None:
    ledger: Path = host.places.config.ledger
    assert occupants(ledger) == {"sandboxes": [], "volumes": [], "templates": []}
    assert occupants(host.folder / "none") == {"sandboxes": [], "volumes": [], "templates": []}
    host.fill()
    assert occupants(ledger) == {"sandboxes": ["ida"], "volumes": ["data"], "templates": ["mine"]}
    ledger.write_bytes(b"no database " * 1000)
    with pytest.raises(HostError, match="sandboxd mends that when it starts"):
        occupants(ledger)
