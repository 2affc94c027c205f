"""Measure a sandbox host from inside, beside plain Docker in the same run. `tools.bench` sends it over and runs it.

Standard library only. Prints one JSON object: a list of rows {what, unit, ours, peer, peer_is}. It makes and removes
sandboxes and containers named `bench-*`, and leaves none.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any, TypeVar

T = TypeVar("T")
Row = dict[str, Any]
CONFIG, ROUNDS = sys.argv[1], int(sys.argv[2])


class Api(HTTPConnection):
    """sandboxd's Unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(f"/run/{CONFIG}/sandboxd.sock")


def api(method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = Api("sandboxd")
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return (time.perf_counter() - start) * 1000, result


def wait_for_pool() -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        pool = api("GET", "/pool")[1]
        if pool["warm"] >= pool["size"]:
            time.sleep(0.3)  # the fill's last bookkeeping
            return
        time.sleep(0.05)
    raise SystemExit("the pool is not full after 120 s")


def create(body: dict[str, Any]) -> str:
    status, answer = api("POST", "/v2/sandboxes", body)
    if status != 201:
        raise SystemExit(f"init answered {status}: {answer}")
    return str(answer["sandboxID"])


def kill(*ids: str) -> None:
    for one in ids:
        api("DELETE", f"/sandboxes/{one}")


def remove(container: str) -> None:
    run("docker", "rm", "--force", "--volumes", container)


def init_from_pool(image: str) -> list[Row]:
    ours, program, peer = [], [], []
    for _ in range(ROUNDS):
        wait_for_pool()
        spent, sandbox = timed(lambda: create({}))
        ours.append(spent)
        kill(sandbox)
        wait_for_pool()
        spent, sandbox = timed(lambda: run("docker-sandbox", "init"))
        program.append(spent)
        kill(sandbox)
        wait_for_pool()
        spent, container = timed(lambda: run("docker", "run", "--detach", "--init", image))
        peer.append(spent)
        remove(container)
    return [
        row("init from the pool, API, median", "ms", statistics.median(ours), statistics.median(peer), "docker run -d"),
        row("init from the pool, API, p95", "ms", percentile(ours), percentile(peer), "docker run -d"),
        row("docker-sandbox init, median", "ms", statistics.median(program), statistics.median(peer), "docker run -d"),
    ]


def init_cold(image: str) -> list[Row]:
    ours, peer = [], []

    def plain() -> str:
        run("docker", "network", "create", "bench-net")
        return run("docker", "run", "--detach", "--init", "--network", "bench-net", image)

    for _ in range(max(3, ROUNDS // 3)):
        wait_for_pool()
        spent, sandbox = timed(lambda: create({"cold": True}))
        ours.append(spent)
        kill(sandbox)
        wait_for_pool()
        spent, container = timed(plain)
        peer.append(spent)
        remove(container)
        run("docker", "network", "rm", "bench-net")
    name = "network create + docker run"
    return [row("init cold, API, median", "ms", statistics.median(ours), statistics.median(peer), name)]


def execute(sandbox: str) -> list[Row]:
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(timed(lambda: run("docker-sandbox", "exec", sandbox, "true"))[0])
        peer.append(timed(lambda: run("docker", "exec", sandbox, "true"))[0])
    return [
        row("docker-sandbox exec true, median", "ms", statistics.median(ours), statistics.median(peer), "docker exec")
    ]


def copy(sandbox: str, megabytes: int = 100) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "data")
        with open(file, "wb") as stream:
            for _ in range(megabytes):
                stream.write(os.urandom(1 << 20))
        up = timed(lambda: run("docker-sandbox", "upload", sandbox, file, "/code/data"))[0]
        peer_up = timed(lambda: run("docker", "cp", file, f"{sandbox}:/code/data2"))[0]
        down = timed(lambda: run("docker-sandbox", "download", sandbox, "/code/data", file + ".back"))[0]
        peer_down = timed(lambda: run("docker", "cp", f"{sandbox}:/code/data2", file + ".back2"))[0]
    for what, spent, peer in (("upload", up, peer_up), ("download", down, peer_down)):
        rows.append(row(f"{what} of {megabytes} MB", "ms", spent, peer, "docker cp"))
    return rows


def many(image: str, count: int = 20) -> list[Row]:
    """So many `init` at once: every one must answer, with a sandbox or with 503."""
    wait_for_pool()
    with ThreadPoolExecutor(count) as pool:
        spent, answers = timed(lambda: list(pool.map(lambda _: api("POST", "/v2/sandboxes", {}), range(count))))
    ids = [answer["sandboxID"] for status, answer in answers if status == 201]
    refused = [status for status, _ in answers if status != 201]
    if set(refused) - {503}:
        raise SystemExit(f"{count} at once: unexpected answers {sorted(set(refused))}")
    kill(*ids)
    with ThreadPoolExecutor(count) as pool:
        work = lambda n: run("docker", "run", "--detach", "--init", "--name", f"bench-{n}", image)  # noqa: E731
        peer, containers = timed(lambda: list(pool.map(work, range(count))))
    for container in containers:
        remove(container)
    return [row(f"{count} at once ({len(ids)} made, {len(refused)} refused)", "ms", spent, peer, "docker run -d")]


def percentile(values: list[float], part: float = 0.95) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def row(what: str, unit: str, ours: float, peer: float, peer_is: str) -> Row:
    return {"what": what, "unit": unit, "ours": round(ours, 1), "peer": round(peer, 1), "peer_is": peer_is}


def main() -> None:
    sandbox = create({})
    image = run("docker", "inspect", "--format", "{{.Config.Image}}", sandbox)
    try:
        rows = execute(sandbox) + copy(sandbox)
    finally:
        kill(sandbox)
    rows += init_from_pool(image) + init_cold(image) + many(image)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
