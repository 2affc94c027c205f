"""The gateway: Debian's HAProxy, which finds a sandbox by its id in a runtime map and dials any of its ports."""

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys import console, fleetgateway
from deploys.operations import packages, place, unit, when
from deploys.preflight import settings
from deploys.traefik import API, GATEWAY

PAGES = ("not-found", "port-closed", "bad-answer", "private", "password", "waking", "not-woken")
CONFIG, PROGRAM = "/etc/haproxy/haproxy.cfg", "/etc/haproxy/sandboxes.lua"
# Unix seconds at which the present worker started: a reload starts a new one, which systemd does not see. Its start is
# field 22 of proc_pid_stat(5), in ticks since boot; the name before it may hold spaces. The time is asked for last:
# what a busy host lets pass before it tells it makes the start later, and no file newer than it.
WORKER_START = (
    "awk -v hz=$(getconf CLK_TCK) '"
    'NR == FNR {up = $1; "date +%s.%N" | getline now; next} {sub(/.*\\) /, ""); printf "%.2f", now - up + $20 / hz}'
    "' "
    "/proc/uptime /proc/$(pgrep -n -u haproxy -x haproxy)/stat"
)


def unread(paths: str) -> str:
    """The command that prints which of the files there the present worker has not read.

    Not directories: whoever has had a certificate loaded takes away what said that it is not in use.
    """
    return f'started=$({WORKER_START}) && find {paths} -type f -newermt "@$started"'


@deploy("Gateway")
def haproxy() -> None:
    """HAProxy with our configuration, checked before it is loaded; a reload keeps the connections that are open."""
    wanted = settings()
    routes_map, secrets = f"{wanted.state}/routes.map", f"{wanted.etc}/secrets"
    link_key = f"{secrets}/link_key"
    packages("the gateway", ["haproxy"])
    files.directory(name=f"Make {wanted.state}", path=wanted.state, user="root", group="root", mode="711")
    files.file(name="Make the route map", path=routes_map, user="root", group="root", mode="644")
    files.directory(name=f"Make {secrets}", path=secrets, user="root", group="root", mode="700")
    when(
        name="Make the key of links",
        condition=f"[ -s {link_key} ] || echo missing",
        # A map with one entry: HAProxy reads it before it becomes an unprivileged user.
        commands=[f'umask 077 && echo "key $(openssl rand -base64 32)" >{link_key}'],
    )
    files.file(name="Close the key of links", path=link_key, user="root", group="root", mode="600")
    for page in PAGES:
        place(f"etc/project-sandbox/pages/{page}.html", wanted)
    place("etc/haproxy/sandboxes.lua", wanted)
    fleet = fleetgateway.gateway(wanted)
    certificates = ""
    if fleet:
        files.file(name="Make the map of the fleet", path=fleet.nodes_map, user="root", group="root", mode="644")
        certificates = f" {fleetgateway.directory(wanted)}"
    pages = console.socket(wanted) if wanted.console else ""
    place(
        "etc/haproxy/haproxy.cfg",
        wanted,
        gateway=GATEWAY,
        api=API,
        routes_map=routes_map,
        link_key=link_key,
        console=pages,
        fleet=fleet,
    )
    when(
        name="Check the configuration",
        condition=f"haproxy -c -q -f {CONFIG} || echo bad",
        commands=[f"haproxy -c -f {CONFIG}"],
    )
    # After the configuration: that of the package does what this forbids.
    place("etc/systemd/system/haproxy.service.d/60-project-sandbox.conf", wanted)
    unit(name="Run the gateway", unit="haproxy.service")
    # By age, not by what this run changed: an interrupted run is made good by the next. All files are read at load.
    when(
        name="Load the changed configuration",
        condition=unread(f"{CONFIG} {PROGRAM} {wanted.etc}/pages {link_key}{certificates}"),
        commands=["systemctl reload haproxy.service"],
    )
