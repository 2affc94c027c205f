"""The case of E2B's own Python client beside `docker exec` and `docker cp`: what its users wait for.

The client's environment is made below the directory for temporary files for the run, and removed. It resolves names by
DNS alone, so it runs where /etc/resolv.conf names a server of ours, which says that everything is this host.
"""

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.bench.host.machine import Machine, remove, run
from tools.bench.host.measure import Samples, Scale, row

CLIENT = "e2b==2.63.0"
NAMESERVER = "127.0.0.54"
SMALL_BYTES = 1000
PROGRAM = Path(__file__).with_name("sdk_program.py")


def sdk(machine: Machine, scale: Scale) -> list[dict[str, Any]]:
    """The client's own clock times its calls. The peers are Docker's own programs, with their start."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, key() as secret, names_of_this_host(directory):
        run(sys.executable, "-m", "venv", f"{directory}/venv")
        run(f"{directory}/venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", CLIENT)
        data = os.path.join(directory, "data")
        with open(data, "wb") as stream:
            for _ in range(scale.megabytes):
                stream.write(os.urandom(1_000_000))
        machine.wait_for_pool()
        ours = _ours(machine, scale, directory, secret)
        machine.wait_for_pool()
        peers = _peers(machine, scale, directory)
    large = f"of {scale.megabytes} MB"
    rows = [
        ("create", "create", "docker run -d"),
        ("commands.run('true')", "run", "docker exec ID true"),
        ("files.write of 1 KB", "write", "docker cp"),
        ("files.read of 1 KB", "read", "docker cp"),
        (f"files.write {large}", "upload", "docker cp"),
        (f"files.read {large}", "download", "docker cp"),
    ]
    return [row(f"SDK: {what}", ours[name], peers[name], peer_is) for what, name, peer_is in rows]


def _ours(machine: Machine, scale: Scale, directory: str, secret: str) -> dict[str, Samples]:
    """What the program in the client's environment says: name -> [milliseconds, errors]."""
    program = Path(directory, "program.py")
    program.write_bytes(source())
    authority = f"{directory}/ca.pem"
    known = ("/etc/ssl/certs/ca-certificates.crt", f"/etc/{machine.name}/ca/ca.pem")
    Path(authority).write_bytes(b"".join(Path(one).read_bytes() for one in known if os.path.exists(one)))
    words = {"E2B_DOMAIN": machine.domain, "E2B_API_KEY": secret, "SSL_CERT_FILE": authority}
    # A mount namespace of its own: nobody else on the host sees the other resolv.conf.
    inside = f'mount --bind {directory}/resolv.conf "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    command = [f"{directory}/venv/bin/python", str(program), f"{directory}/data"]
    counts = [str(scale.rounds), str(scale.transfers), str(SMALL_BYTES)]
    said = run(
        "env", *(f"{name}={value}" for name, value in words.items()),
        "unshare", "--mount", "sh", "-c", inside, "sh", *command, *counts,
    )  # fmt: skip
    found = json.loads(said.splitlines()[-1])
    return {name: Samples(values, len(errors), errors[0] if errors else "") for name, (values, errors) in found.items()}


def _peers(machine: Machine, scale: Scale, directory: str) -> dict[str, Samples]:
    found = {name: Samples() for name in ("create", "run", "write", "read", "upload", "download")}
    small, large, back = f"{directory}/small", f"{directory}/data", f"{directory}/back"
    Path(small).write_bytes(b"x" * SMALL_BYTES)
    for _ in range(scale.rounds):
        if made := found["create"].time(machine.run_bare):
            remove(made)
    container = machine.run_bare()
    for _ in range(scale.rounds):
        found["run"].time(lambda: run("docker", "exec", container, "true"))
        found["write"].time(lambda: run("docker", "cp", small, f"{container}:/code/small"))
        found["read"].time(lambda: run("docker", "cp", f"{container}:/code/small", back))
    for _ in range(scale.transfers):
        os.sync()
        found["upload"].time(lambda: run("docker", "cp", large, f"{container}:/code/large"))
        os.sync()
        found["download"].time(lambda: run("docker", "cp", f"{container}:/code/large", back))
    remove(container)
    return found


def source() -> bytes:
    """The client's program, which is in a zip file when this runs on a host."""
    loader = globals()["__loader__"]
    return bytes(loader.get_data(str(PROGRAM)))


@contextmanager
def key() -> Iterator[str]:
    made = json.loads(run("docker-sandbox", "key", "create", "bench", "--json"))
    try:
        yield made["key"]
    finally:
        run("docker-sandbox", "key", "revoke", made["keyID"])


@contextmanager
def names_of_this_host(directory: str) -> Iterator[None]:
    """A server of names that answers 127.0.0.1 to every question of an IPv4 address, and nothing to all others."""
    Path(directory, "resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAMESERVER, 53))
        server.settimeout(0.2)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    question, peer = server.recvfrom(512)
                except TimeoutError:
                    continue
                server.sendto(answer(question), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def answer(question: bytes) -> bytes:
    """RFC 1035: the question again, with one address if it asked for one."""
    end = question.index(b"\0", 12) + 5  # the name, its type and class
    asked = question[12:end]
    one = asked[-4:] == b"\0\1\0\1"
    counts = b"\0\1" + (b"\0\1" if one else b"\0\0") + b"\0\0\0\0"
    address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if one else b""
    return question[:2] + b"\x81\x80" + counts + asked + address
