"""The gateway: Debian's HAProxy, which finds a sandbox by its id in a runtime map and dials any of its ports."""

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys import console
from deploys.operations import packages, place, unit, when
from deploys.preflight import settings
from deploys.traefik import API, GATEWAY

CONFIG, PROGRAM = "/etc/haproxy/haproxy.cfg", "/etc/haproxy/sandboxes.lua"
# Unix seconds at which the present worker started: a reload starts a new one, which systemd does not see. Its start is
# field 22 of proc_pid_stat(5), in ticks since boot; the name before it may hold spaces.
WORKER_START = (
    "awk -v now=$(date +%s.%N) -v hz=$(getconf CLK_TCK) "
    '\'NR == FNR {up = $1; next} {sub(/.*\\) /, ""); printf "%.2f", now - up + $20 / hz}\' '
    "/proc/uptime /proc/$(pgrep -n -u haproxy -x haproxy)/stat"
)


@deploy("Gateway")
def haproxy() -> None:
    """HAProxy with our configuration, checked before it is loaded; a reload keeps the connections that are open."""
    wanted = settings()
    routes_map = f"{wanted.state}/routes.map"
    packages("the gateway", ["haproxy"])
    files.directory(name=f"Make {wanted.state}", path=wanted.state, user="root", group="root", mode="711")
    files.file(name="Make the route map", path=routes_map, user="root", group="root", mode="644")
    for page in ("not-found", "port-closed"):
        place(f"etc/project-sandbox/pages/{page}.html", wanted)
    place("etc/haproxy/sandboxes.lua", wanted)
    pages = console.socket(wanted) if wanted.console else ""
    place("etc/haproxy/haproxy.cfg", wanted, gateway=GATEWAY, api=API, routes_map=routes_map, console=pages)
    when(
        name="Check the configuration",
        condition=f"haproxy -c -q -f {CONFIG} || echo bad",
        commands=[f"haproxy -c -f {CONFIG}"],
    )
    unit(name="Run the gateway", unit="haproxy.service")
    # By age, not by what this run changed: an interrupted run is made good by the next. All files are read at load.
    when(
        name="Load the changed configuration",
        condition=f'started=$({WORKER_START}) && find {CONFIG} {PROGRAM} {wanted.etc}/pages -newermt "@$started"',
        commands=["systemctl reload haproxy.service"],
    )
