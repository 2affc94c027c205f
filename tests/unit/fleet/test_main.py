"""The service as a process: its sockets, its end, and what it says of a configuration that is wrong."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from fleet.swarm import Swarm
from tests.unit.fleet.fake_swarm import FakeSwarm
from tests.unit.fleet.fleets import Node, over
from tests.unit.fleet.test_config import TEXT
from tests.unit.sandboxd.conftest import OWN_GROUP, member, short_directory, until

SOURCE = Path(__file__).parents[3] / "src"
# Of the loopback, and of this process alone: on 127.0.0.1 a port that was free may be somebody else's a moment later.
ADDRESS = f"127.{128 + (os.getpid() >> 16)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from fleet.__main__ import main; sys.exit(main())"


def start(config: Path, **env: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-I", "-c", START, str(SOURCE), "--config", str(config)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, env={**os.environ, **env})


def test_it_serves_until_it_is_told_to_end() -> None:
    with short_directory() as directory, socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        swarm = FakeSwarm(directory / "swarmd.sock")
        swarm.join("a", role="manager", leader=True)
        node = Node(directory, "a", 0)
        text = TEXT.partition("[nodes.b]")[0].replace("127.0.0.1:8090", f"{ADDRESS}:{port}")
        for old, new in (
            ("/run/acme-sandbox/nodes/a.sock", node.socket),
            ("/run/acme-sandbox/api.sock", directory / "api.sock"),
            ("/run/acme-swarmd.sock", directory / "swarmd.sock"),
            ("/var/lib/acme-sandbox/nodes.map", directory / "nodes.map"),
            ("/run/haproxy/admin.sock", directory / "edge.sock"),
            ('group = "acme-sandbox"', f'group = "{OWN_GROUP}"'),
        ):
            assert str(old) in text
            text = text.replace(str(old), str(new))
        (directory / "fleet.toml").write_text(text)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(directory / "notify"))
            told.settimeout(30)
            process = start(directory / "fleet.toml", NOTIFY_SOCKET=str(directory / "notify"))
            assert told.recv(100) == b"READY=1"
        with over(directory / "api.sock") as client:
            made = client.post("/v2/sandboxes", json={})
            assert made.status_code == 201, made.text
            (row,) = client.get("/nodes").json()
            assert (row["name"], row["state"], row["leader"], row["sandboxes"]) == ("a", "ready", True, 1)
            found = made.json()["sandboxID"]
            leases = Swarm(swarm.path, "acme-lease:1", "acme")
            until(lambda: found in [one.labels.get("sandbox.id") for one in leases.all()], "no lease has its id")
            warm = member(node.world)
            until(lambda: [one.node for one in leases.of(warm)] == ["a"], "a member of a pool is not booked")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said.decode()
        assert b"Traceback" not in said, said.decode()
        node.close()
        swarm.close()


def test_a_configuration_that_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("node = 1\n")
    process = start(tmp_path / "fleet.toml")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and said.startswith(b"fleet: ") and said.count(b"\n") == 1
