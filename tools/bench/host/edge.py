"""Cases of the way in: how soon a preview answers, and how many requests per second pass.

Makes a router file in Traefik's watched directory and removes it again; installs `wrk` where it is missing.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tools.bench.host.agent import AGENT_PORT, Agent, Edge
from tools.bench.host.machine import Machine, Unexpected, remove, run, say
from tools.bench.host.measure import Goal, Samples, Scale, row

PORT = 8000
DEADLINE_S = 20.0
ROUTER = Path("/etc/traefik/dynamic/sandbox-bench.yml")
SERVER = "exec python3 -m http.server 8000 >/dev/null 2>&1"
# As little of a server as there can be: each read is answered with the same 200, so that the proxies are what is slow.
FAST = (
    "exec node -e \"require('net').createServer(s=>{s.setNoDelay();s.on('error',()=>{});"
    "s.on('data',()=>s.write('HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok'))}).listen(8000)\" >/dev/null 2>&1"
)
WRK = ("wrk", "--threads", "1", "--latency")
BUSY, ALONE = 32, 1


def preview(machine: Machine, scale: Scale) -> list[dict[str, Any]]:
    """From the request for a sandbox to the first 200 through Traefik; with a server, and of the agent's own port."""
    port_open, ours, peer = Samples(), Samples(), Samples()

    def agents_port() -> dict[str, Any]:
        sandbox = machine.create()
        until_answered(lambda: Edge(f"{AGENT_PORT}-{sandbox['sandboxID']}.{machine.domain}"), "/health", (200, 204))
        return sandbox

    def with_server() -> dict[str, Any]:
        sandbox = machine.create()
        Agent(sandbox, machine.domain).background(SERVER)
        until_answered(lambda: Edge(f"qa-{sandbox['sandboxID']}.{machine.domain}"), "/")
        return sandbox

    def plain() -> str:
        container = machine.run_bare("--publish", "127.0.0.1::8000", command=("python3", "-m", "http.server", "8000"))
        port = int(run("docker", "port", container, "8000").rpartition(":")[2])
        until_answered(lambda: HTTPConnection("127.0.0.1", port, timeout=5), "/")
        return container

    for _ in range(scale.cold_rounds):
        for samples, work in ((port_open, agents_port), (ours, with_server)):
            machine.wait_for_pool()
            if sandbox := samples.time(work):
                machine.kill(sandbox["sandboxID"])
        machine.wait_for_pool()
        if container := peer.time(plain):
            remove(container)
    peer_is = "docker run -d -p, the same server"
    return [
        row("preview: init, python3 -m http.server, first 200", ours, peer, peer_is, Goal(median=300)),
        row("preview: init, first answer of a port that is open", port_open),
    ]


def requests(machine: Machine, scale: Scale) -> list[dict[str, Any]]:
    """Requests per second to one server in a sandbox, and how long one takes where there is no other: as a preview, and
    by a router of Traefik straight to it.
    """
    need_wrk()
    ours, alone, direct, our_time, time_alone = (Samples() for _ in range(5))
    sandbox = machine.create()
    sandbox_id = sandbox["sandboxID"]
    address = machine.expect(200, "GET", f"/sandboxes/{sandbox_id}")["address"]
    Agent(sandbox, machine.domain).background(FAST)
    name = f"bench-alone.{machine.domain}"
    try:
        ROUTER.write_text(router(name, address))
        until_answered(lambda: Edge(f"qa-{sandbox_id}.{machine.domain}"), "/")
        until_answered(lambda: Edge(name), "/")
        machine.wait_for_pool()
        for _ in range(scale.loads):
            preview, edge = f"qa-{sandbox_id}.{machine.domain}", "https://127.0.0.1/"
            load(ours, parse_wrk, preview, edge, BUSY, scale.load_s)
            load(alone, parse_wrk, name, edge, BUSY, scale.load_s)
            load(direct, parse_wrk, address, f"http://{address}:{PORT}/", BUSY, scale.load_s)
            load(our_time, parse_median, preview, edge, ALONE, scale.load_s)
            load(time_alone, parse_median, name, edge, ALONE, scale.load_s)
    finally:
        ROUTER.unlink(missing_ok=True)
    machine.kill(sandbox_id)
    unit, what = "req/s", "requests through Traefik and gateway"
    return [
        row(what, ours, alone, "Traefik alone", Goal(ratio=0.7, at_least=True), unit, more_is_better=True),
        row(what, ours, direct, "no proxy, no TLS", None, unit, more_is_better=True),
        row("one request at a time, median", our_time, time_alone, "Traefik alone", None, "µs"),
    ]


def need_wrk() -> None:
    if shutil.which("wrk") is None:
        say("installing Debian's package wrk; remove it with: apt-get purge wrk")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "wrk")


def router(name: str, address: str) -> str:
    """Traefik's configuration of one name that goes straight to the server."""
    return (
        "http:\n"
        f"  routers: {{bench: {{entryPoints: [websecure], rule: 'Host(`{name}`)', service: bench, tls: {{}}}}}}\n"
        f'  services: {{bench: {{loadBalancer: {{servers: [{{url: "http://{address}:{PORT}"}}]}}}}}}\n'
    )


def load(samples: Samples, parse: Callable[[str], float], name: str, url: str, connections: int, seconds: int) -> None:
    command = [*WRK, "--connections", str(connections), "--duration", f"{seconds}s", "--header", f"Host: {name}", url]
    report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    try:
        samples.values.append(parse(report))
    except Unexpected as error:
        samples.failed += 1
        samples.last_error = f"{url}: {error}"


def parse_wrk(report: str) -> float:
    """Requests per second. Raises Unexpected when some were answered with an error: such are quick, and no success."""
    found = re.search(r"^Requests/sec:\s+([\d.]+)", report, re.MULTILINE)
    bad = re.search(r"Non-2xx or 3xx responses: \d+", report)
    if not found or bad:
        raise Unexpected(bad.group() if bad else f"wrk said: {report.strip()[-200:]}")
    return float(found[1])


def parse_median(report: str) -> float:
    """The median time of a request, in microseconds. Raises Unexpected as `parse_wrk` does."""
    parse_wrk(report)
    found = re.search(r"^ +50% +([\d.]+)(us|ms)$", report, re.MULTILINE)
    if not found:
        raise Unexpected(f"wrk said: {report.strip()[-200:]}")
    return float(found[1]) * (1000 if found[2] == "ms" else 1)


def until_answered(connect: Any, path: str, wanted: tuple[int, ...] = (200,)) -> None:
    """Asks every few milliseconds until the status is one of `wanted`. Raises Unexpected after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    seen: object = None
    while time.monotonic() < deadline:
        connection = connect()
        try:
            connection.request("GET", path)
            seen = connection.getresponse().status
        except (TimeoutError, OSError) as error:
            seen = error
        finally:
            connection.close()
        if seen in wanted:
            return
        time.sleep(0.003)
    raise Unexpected(f"{path} did not answer {wanted} within {DEADLINE_S:.0f} s: {seen}")
