"""Hands requests that come over the virtual serial port to one process for each host, and their answers back."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

PORT = "agent"  # the name that the virtual machine gives it
SERVER = "server"
HOSTS = ("a", "b")


def main() -> None:
    with port().open("r+b", buffering=0) as line:
        writing = threading.Lock()

        def answers(source: IO[bytes]) -> None:
            for answer in source:
                with writing:
                    send(line, answer)

        processes = {name: start(name) for name in (SERVER, *HOSTS)}
        for process in processes.values():
            assert process.stdout is not None
            threading.Thread(target=answers, args=(process.stdout,), daemon=True).start()
        with writing:
            send(line, b'{"ready": true}\n')
        pending = b""
        while True:
            pending += line.read(65536)
            *requests, pending = pending.split(b"\n")
            for request in requests:
                where = processes[json.loads(request)["host"]].stdin
                assert where is not None
                where.write(request + b"\n")
                where.flush()


def send(line: IO[bytes], answer: bytes) -> None:
    """The port takes a part at a time."""
    while answer:
        answer = answer[line.write(answer) :]


def port() -> Path:
    for found in Path("/sys/class/virtio-ports").iterdir():
        if (found / "name").read_text().strip() == PORT:
            return Path("/dev") / found.name
    sys.exit(f"there is no port {PORT}")


def start(name: str) -> "subprocess.Popen[bytes]":
    enter = [] if name == SERVER else ["nsenter", f"--net=/run/netns/{name}", f"--uts=/run/uts-{name}", "--"]
    command = [*enter, "python3", "-m", "tests.nfs.inside.host", name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


main()
