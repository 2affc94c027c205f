"""The case of large files: upload and download beside `docker cp`. Touches a directory of its own below /var/tmp."""

import os
import tempfile
from typing import Any

from tools.bench.host.machine import Machine, run
from tools.bench.host.measure import Goal, Samples, Scale, row


def copy(machine: Machine, scale: Scale) -> list[dict[str, Any]]:
    """The same file, in turn. Bytes that do not compress; the kernel's write-back of each is waited for."""
    up, down, peer_up, peer_down = Samples(), Samples(), Samples(), Samples()
    sandbox_id: str = machine.create()["sandboxID"]
    machine.wait_for_pool()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        file = os.path.join(directory, "data")
        with open(file, "wb") as stream:
            for _ in range(scale.megabytes):
                stream.write(os.urandom(1_000_000))
        for _ in range(scale.transfers):
            os.sync()
            up.time(lambda: run("docker-sandbox", "upload", sandbox_id, file, "/code/data"))
            os.sync()
            peer_up.time(lambda: run("docker", "cp", file, f"{sandbox_id}:/code/data2"))
            os.sync()
            down.time(lambda: run("docker-sandbox", "download", sandbox_id, "/code/data", file + ".back"))
            os.sync()
            peer_down.time(lambda: run("docker", "cp", f"{sandbox_id}:/code/data2", file + ".back2"))
    machine.kill(sandbox_id)
    return [
        row(f"upload of {scale.megabytes} MB", up, peer_up, "docker cp", Goal(ratio=1.0)),
        row(f"download of {scale.megabytes} MB", down, peer_down, "docker cp", Goal(ratio=1.0)),
    ]
