"""Names in allow lists: an egress proxy (Debian's HAProxy, once more) and who answers names for it (Debian's dnsmasq).

The address on which both listen is made by the firewall, the map of names is kept by sandboxd.
"""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys.operations import packages, place, unit, when
from deploys.preflight import settings
from deploys.settings import Settings

# Where they listen, as `sandboxd.wall` has it; what no name may lead to, as `sandboxd.egress.WALLED` has it: neither is
# there on a workstation, and a test compares.
NAMES_PORT, PROXY_PORTS = 15353, {80: 15080, 443: 15443}
CLOSED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "168.63.129.16/32",
    "224.0.0.0/3",
)


def user(wanted: Settings) -> str:
    """Whom the proxy runs as: the firewall closes networks to this user."""
    return f"{wanted.project}-egress"


def names_map(wanted: Settings) -> str:
    return f"{wanted.state}/names.map"


def socket(wanted: Settings) -> str:
    """Where the proxy takes commands."""
    return f"/run/{wanted.project}-egress/admin.sock"


def units(wanted: Settings) -> list[str]:
    """In the order in which they are stopped: the watch would start its service again."""
    names = ("name-servers.path", "name-servers.service", "egress.service", "names.service")
    return [f"{wanted.project}-{name}" for name in names]


@deploy("Egress proxy")
def configure() -> None:
    """Programs, user and configuration. It is run once the firewall stands."""
    wanted = settings()
    name = user(wanted)
    packages("the egress proxy", ["haproxy", "dnsmasq-base"])
    when(
        name=f"Make the user {name}",
        condition=f"id -u {name} >/dev/null 2>&1 || echo missing",
        commands=[f"useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin {name}"],
    )
    files.file(name="Make the map of names", path=names_map(wanted), user="root", group="root", mode="644")
    place("etc/project-sandbox/egress.lua", wanted)
    place(
        "etc/project-sandbox/egress.cfg",
        wanted,
        ports=PROXY_PORTS,
        socket=socket(wanted),
        names_map=names_map(wanted),
        closed=[*CLOSED, *wanted.network_deny],
        exempt=wanted.network_allow,
        own=[*wanted.sandbox_sources, f"{wanted.egress_address}/32"],
    )
    config = f"{wanted.etc}/egress.cfg"
    when(
        name="Check the configuration of the egress proxy",
        condition=f"haproxy -c -q -f {config} || echo bad",
        commands=[f"haproxy -c -f {config}"],
    )
    place("etc/project-sandbox/names.conf", wanted, port=NAMES_PORT)
    place("etc/systemd/system/project-egress.service", wanted, login=name)
    place("etc/systemd/system/project-names.service", wanted)
    for kind in ("service", "path"):
        place(f"etc/systemd/system/project-name-servers.{kind}", wanted)


@deploy("Egress proxy, running")
def activate() -> None:
    """Both, with their present configuration. Connections through the proxy end when it is restarted."""
    wanted = settings()
    watch, watcher, proxy, names = units(wanted)
    unit(name="Answer names for the egress proxy", unit=names, files=[f"{wanted.etc}/names.conf"])
    unit(
        name="Run the egress proxy",
        unit=proxy,
        files=[f"{wanted.etc}/egress.cfg", f"{wanted.etc}/egress.lua"],
    )
    unit(name="Watch the host's name servers", unit=watch, files=[f"/etc/systemd/system/{watcher}"])
