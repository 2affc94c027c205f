"""The daemon as a process: its sockets, its word to systemd, its end, and its complaints."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from sandboxd import __main__ as daemon
from sandboxd.config import Fleet
from sandboxd.ledger import Ledger
from sandboxd.objects import Host
from sandboxd.server import Server
from tests.unit.sandboxd.conftest import OWN_GROUP, World, services_of, until
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy

PROJECT = Path(__file__).parents[3]
LIMIT_S = 90  # for what takes a second or two: other tests have the processors and the disk meanwhile

# The daemon's own main(), with doubles for Docker and for what is inside the sandboxes.
PROGRAM = """
import sys, time
from pathlib import Path
from sandboxd import __main__ as daemon
from sandboxd.objects import Host
from tests.unit.sandboxd.fake_engine import FakeEngine
from tests.unit.sandboxd.fake_host import FakeMounts, FakeNft
mounts, nft = FakeMounts(Path(sys.argv[-1]).parent / "root"), FakeNft()
daemon.DockerEngine = lambda: FakeEngine(time.time)
daemon.Host = lambda **given: Host(
    **given, netns_run=lambda _: 0, nft_run=nft.run, nft_changes=nft.changes, disks_run=mounts.run, root=mounts.root,
    alive=lambda _: True, available_memory_mb=lambda: 8192, free_disk_mb=lambda _: 8192, reclaim=lambda _: None,
)
sys.exit(daemon.main())
"""


@pytest.mark.parametrize(("hard", "given"), [(1024, 1024), (1_048_576, 65536), (resource.RLIM_INFINITY, 65536)])
def test_sandboxes_get_no_more_than_the_host_has(monkeypatch: pytest.MonkeyPatch, hard: int, given: int) -> None:
    monkeypatch.setattr("sandboxd.__main__.resource.getrlimit", lambda _: (1024, hard))
    assert daemon.allowed(resource.RLIMIT_NOFILE, 65536) == given


def test_the_parts_belong_together(world: World, directory: Path) -> None:
    (directory / "token_key").write_text("ab" * 32)
    parts = daemon.services(world.config, world.engine, Host())
    assert parts.sandboxes.key == b"\xab" * 32
    assert parts.sandboxes.ledger.routes() == [] and parts.health.troubles() == {}
    parts.sandboxes.ledger.close()


def test_a_bad_configuration_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sandboxd", "--config", str(tmp_path / "none.toml")])
    assert daemon.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        f"sandboxd: {tmp_path}/none.toml: No such file or directory. Deploy the host, or name the file with --config."
    ]


@pytest.fixture
def files(directory: Path) -> Iterator[Path]:
    with deployed(directory) as file:
        yield file


@contextmanager
def deployed(directory: Path) -> Iterator[Path]:
    """What the deploy leaves for the daemon: its configuration, the key, a gateway that runs. Returns the first."""
    with kept_port() as port, kept_port() as metrics_port:
        yield from configured(directory, port, metrics_port)


@contextmanager
def kept_port() -> Iterator[int]:
    """A port on which the daemon can listen, and that the kernel gives to nobody else: one that was only looked for
    may be another test's by the time that the daemon has started."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the daemon does: both may, while one listens
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


def configured(directory: Path, port: int, metrics_port: int) -> Iterator[Path]:
    """The same, on these ports."""
    state = directory / "state"
    state.mkdir()
    (directory / "token_key").write_text("ab" * 32)
    file = directory / "config.toml"
    file.write_text(
        f"""
project = "acme"
domain = "example.com"
state_dir = "{state}"
secrets_dir = "{directory}"
socket = "{directory}/run/s.sock"
socket_group = "{OWN_GROUP}"
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:{metrics_port}"
audit_log = "{directory}/log/audit.log"
default_template = "base"
default_port = 8000
create_parallelism = 2
max_sandboxes = 10
memory_reserve_mb = 1024
disk_reserve_mb = 2048
build_timeout_s = 1800
wake_on_visit = true
idle_pause_s = 0
[gateway]
address = "127.0.0.1:8081"
admin_socket = "{directory}/admin.sock"
routes_map = "{state}/routes.map"
socket = "{directory}/run/g.sock"
group = "{OWN_GROUP}"
[network]
mode = "public"
allow = ["10.9.0.0/16"]
deny = []
keys_may_open = false
sources = ["10.200.0.0/16"]
egress_address = "198.18.0.1"
egress_user = "acme-egress"
[proxy]
admin_socket = "{directory}/egress.sock"
names_map = "{state}/names.map"

[wanted]
runtime = "crun"
userns_remap = true
console = true
tls_mode = "internal"
[templates.base]
image = "base:1"
memory_mb = 2048
cpus = 2.0
pids = 1024
disk_mb = 10240
layer_mb = 10240
pool = 2
"""
    )
    haproxy = FakeHaproxy(directory / "admin.sock", state / "routes.map")
    yield file
    haproxy.stop()


def launch(file: Path, **environment: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--config", str(file)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(file: Path) -> Iterator["subprocess.Popen[str]"]:
    """The daemon, from its READY=1 on."""
    path = str(file.parent / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(LIMIT_S)
        process = launch(file, NOTIFY_SOCKET=path)
        try:
            assert receiver.recv(100) == b"READY=1"
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=LIMIT_S)


def client_of(file: Path, name: str = "s.sock") -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(file.parent / "run" / name))
    return httpx.Client(transport=transport, base_url="http://sandboxd", trust_env=False, timeout=LIMIT_S)


def test_it_serves_as_soon_as_it_says_so_and_ends_in_order_at_sigterm(files: Path) -> None:
    with running(files) as process, client_of(files) as client:
        assert client.get("/health").text == "ok\n"
        assert client.post("/pool", json={"enabled": True}).status_code == 200
        until(lambda: client.get("/pool").json()["warm"] == 2, "a full pool")
        made = client.post("/v2/sandboxes", json={"timeout": 3600})
        assert made.headers["x-sandbox-origin"] == "pool"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0 and "Traceback" not in log, log
    assert f"sandbox {made.json()['sandboxID']} is in use: origin pool, template base" in log
    ledger = Ledger(files.parent / "state" / "ledger.sqlite")
    assert [row.id for row in ledger.rows("running")] == [made.json()["sandboxID"]], "sandboxes outlive the daemon"
    assert not ledger.rows("creating", "removing"), "nothing was left half-done"
    ledger.close()


def test_each_socket_has_its_own(files: Path) -> None:
    """Whoever takes the gateway over has no more than it: neither the command line's requests, nor a key's."""
    with running(files), client_of(files) as ours, client_of(files, "g.sock") as gateway:
        made = ours.post("/v2/sandboxes", json={"wake": False}).json()["sandboxID"]
        assert gateway.get("/find", headers={"X-Access-Token": "x"}).status_code == 404
        assert gateway.get(f"/resume/{made}").status_code == 404
        for path in ("/v2/sandboxes", "/health", "/keys", f"/sandboxes/{made}"):
            assert gateway.get(path).status_code == 404
        assert ours.get("/v2/sandboxes").status_code == 200


def test_it_does_not_wait_for_those_who_follow_a_log(files: Path) -> None:
    with running(files) as process, client_of(files) as client:
        found = client.post("/v2/sandboxes", json={}).json()["sandboxID"]
        with client.stream("GET", f"/logs/{found}?follow=true&events=true") as followed:
            lines = followed.iter_lines()
            assert json.loads(next(lines))["kind"] == "created"
            process.send_signal(signal.SIGTERM)
            last = [json.loads(line) for line in lines][-1]
        assert last["code"] == 503 and "being stopped" in last["message"]
        _, log = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0 and "Traceback" not in log, log


def test_a_second_daemon_says_so_and_leaves_the_first_ones_socket_alone(files: Path) -> None:
    with running(files), client_of(files) as client:
        second = launch(files)
        _, said = second.communicate(timeout=LIMIT_S)
        assert second.returncode == 1 and "Is another sandboxd running?" in said and "Traceback" not in said
        assert client.get("/v2/sandboxes").status_code == 200, "the first is still reached by its path"


def test_a_ledger_that_cannot_be_opened_is_one_line(files: Path) -> None:
    ledger = files.parent / "state" / "ledger.sqlite"
    ledger.mkdir()
    process = launch(files)
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1 and said.count("\n") == 1
    assert said.startswith(f"sandboxd: {ledger}: unable to open database file.")


def test_with_a_ledger_that_is_damaged_it_serves_and_keeps_the_file(files: Path) -> None:
    ledger = files.parent / "state" / "ledger.sqlite"
    ledger.write_text("no database " * 100)
    with running(files), client_of(files) as client:
        assert client.get("/v2/sandboxes").json() == []
        assert client.post("/v2/sandboxes", json={"cold": True}).status_code == 201
    (kept,) = ledger.parent.glob("ledger-damaged-*.sqlite")
    assert kept.read_text() == "no database " * 100


def test_what_runs_in_the_background_is_stopped_when_serving_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the process would hang on its threads instead of ending, and systemd could not start it again."""
    stopped: list[str] = []

    def note(what: str, stop: Callable[[], None]) -> Callable[[], None]:
        def noted() -> None:
            stopped.append(what)
            stop()

        return noted

    async def fail(self: Server, sockets: list[socket.socket]) -> None:
        for one in sockets:
            one.close()
        raise RuntimeError("no event loop today")

    monkeypatch.setattr(Server, "serve", fail)
    monkeypatch.setattr(world.pool, "stop", note("pool", world.pool.stop))
    monkeypatch.setattr(world.reconciler, "stop", note("reconciler", world.reconciler.stop))
    parts = services_of(world)
    with pytest.raises(RuntimeError, match="no event loop today"):
        daemon.serve(world.config, parts)
    assert stopped == ["pool", "reconciler"]


def test_streams_and_builds_end_when_it_is_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, ended = services_of(world), list[str]()

    async def stopped(self: Server, sockets: list[socket.socket]) -> None:
        for one in sockets:
            one.close()
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        self.servers, self.force_exit = [], True
        await self.shutdown()

    monkeypatch.setattr(Server, "serve", stopped)
    monkeypatch.setattr(parts.streams, "end_all", lambda: ended.append("streams"))
    monkeypatch.setattr(parts.templates, "end_builds", lambda: ended.append("builds"))
    daemon.serve(world.config, parts)
    assert ended == ["streams", "builds"]


@pytest.mark.parametrize(
    ("manages", "opened"),
    [
        pytest.param(None, {"gateway", "cli"}, id="single host"),
        pytest.param(False, {"gateway", "cli", "node"}, id="worker"),
        pytest.param(True, {"gateway", "node"}, id="manager"),
    ],
)
def test_the_sockets_of_a_host_of_a_fleet(
    manages: bool | None, opened: set[str], world: World, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a manager the one of the command line is the fleet service's."""
    node = directory / "node.sock"
    fleet = None if manages is None else Fleet(node, OWN_GROUP, manages)
    settings = replace(world.config, fleet=fleet)
    names = {str(settings.gateway.socket): "gateway", str(settings.socket): "cli", str(node): "node"}
    found: set[str] = set()

    async def look(self: Server, sockets: list[socket.socket]) -> None:
        for one in sockets:
            if one.family == socket.AF_UNIX:
                found.add(names[one.getsockname()])
            one.close()

    monkeypatch.setattr(Server, "serve", look)
    daemon.serve(settings, services_of(world))
    assert found == opened
