"""A whole workflow as the `agent-sandboxes` skill for coding agents does it, with the calls of its command line `sbx`.

Each of its commands is a process of its own that connects to the sandbox, does one thing and ends.
"""

import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2b import Sandbox
from report import features_of, main

TEMPLATE, DAY_HALF_S = "fullstack-vue-fastapi-node22", 43200
EXCLUDED = {".venv", "node_modules", ".git"}
API = """
import sqlite3
from fastapi import FastAPI

app = FastAPI()


@app.get("/api/items")
def items():
    with sqlite3.connect("/home/user/app/items.sqlite") as database:
        return [row[0] for row in database.execute("SELECT name FROM items")]
"""
VITE = """
export default { server: { host: true, port: 5173, proxy: { "/api": "http://localhost:8000" } } };
"""
FILES = {
    "backend/main.py": API,
    "frontend/index.html": '<!doctype html><title>Items</title><script type="module" src="/main.js"></script>',
    "frontend/main.js": 'document.title = "made by Vite";',
    "frontend/vite.config.mjs": VITE,
    "frontend/node_modules/left/out.js": "no",
}


def command(verb: str, *words: str) -> str:
    """One command of its command line, as a process. Returns what it printed."""
    done = subprocess.run(
        [sys.executable, __file__, verb, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{verb} {words}: {done.stdout} {done.stderr}"
    return done.stdout.removesuffix("\n")


def init(template: str, name: str) -> None:
    print(
        Sandbox.create(
            template=template, timeout=DAY_HALF_S, metadata={"name": name}, envs={"STAGE": "test"}
        ).sandbox_id
    )


def execute(sandbox_id: str, words: str, *options: str) -> None:
    sandbox = Sandbox.connect(sandbox_id)
    if "--background" in options:
        print(sandbox.commands.run(words, background=True, timeout=60).pid)
    else:
        done = sandbox.commands.run(words, timeout=60)
        print(done.stdout + done.stderr, end="")


def upload_dir(sandbox_id: str, source: str, target: str) -> None:
    sandbox = Sandbox.connect(sandbox_id)
    for directory, names, files in os.walk(source):
        names[:] = [name for name in names if name not in EXCLUDED]
        place = os.path.join(target, os.path.relpath(directory, source))
        sandbox.files.make_dir(place)
        for name in files:
            sandbox.files.write(os.path.join(place, name), Path(directory, name).read_bytes())


def download_dir(sandbox_id: str, source: str, target: str) -> None:
    sandbox = Sandbox.connect(sandbox_id)
    for entry in sandbox.files.list(source, depth=10):
        place = Path(target, os.path.relpath(entry.path, source))
        if entry.type is not None and entry.type.value == "dir":
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes(sandbox.files.read(entry.path, format="bytes")))


def edit(sandbox_id: str, path: str, old: str, new: str) -> None:
    sandbox = Sandbox.connect(sandbox_id)
    text = str(sandbox.files.read(path))
    assert old in text
    sandbox.files.write(path, text.replace(old, new, 1))


def get_host(sandbox_id: str, port: str) -> None:
    print(f"https://{Sandbox.connect(sandbox_id).get_host(int(port))}")


def extend_lifetime(sandbox_id: str, seconds: str) -> None:
    info = Sandbox.connect(sandbox_id).get_info()
    left = (info.end_at - datetime.now(UTC)).total_seconds()
    Sandbox.set_timeout(sandbox_id, int(left) + int(seconds))
    after: Any = Sandbox.connect(sandbox_id).get_info()
    print((after.end_at - info.end_at).total_seconds())


def pause(sandbox_id: str) -> None:
    sandbox: Any = Sandbox.connect(sandbox_id)
    (sandbox.pause if hasattr(sandbox, "pause") else sandbox.beta_pause)()


def status(sandbox_id: str) -> None:
    print("is running" if Sandbox.connect(sandbox_id).is_running() else "is not running")


def kill(sandbox_id: str) -> None:
    print("killed" if Sandbox.kill(sandbox_id) else "not found")


COMMANDS: dict[str, Callable[..., None]] = {
    "init": init,
    "exec": execute,
    "upload-dir": upload_dir,
    "download-dir": download_dir,
    "edit": edit,
    "get-host": get_host,
    "extend-lifetime": extend_lifetime,
    "pause": pause,
    "status": status,
    "kill": kill,
}


class Updates:
    """The web socket by which Vite tells a browser what has changed."""

    def __init__(self, url: str) -> None:
        host = url.removeprefix("https://")
        token = re.search(r'wsToken = "([^"]+)"', seen_from_outside(f"{url}/@vite/client"))
        assert token, "Vite's client has no token"
        plain = socket.create_connection((host, 443), timeout=60)
        self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        head = (
            f"GET /?token={token[1]} HTTP/1.1\r\nHost: {host}\r\nOrigin: {url}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: vite-hmr\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        self._seen = b""
        self.wait_for(b"\r\n\r\n")
        assert self._seen.startswith(b"HTTP/1.1 101 "), self._seen

    def wait_for(self, text: bytes) -> None:
        """Frames of a server are not masked: what they say can be looked for as it is."""
        while text not in self._seen:
            more = self._socket.recv(65536)
            assert more, f"closed after {self._seen!r}"
            self._seen += more

    def close(self) -> None:
        self._socket.close()


def seen_from_outside(url: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            assert time.monotonic() < deadline, f"{url}: {error}"
            time.sleep(0.2)


def feature_plan_build_host_test() -> None:
    made = command("init", TEMPLATE, "workflow-1")
    try:
        with tempfile.TemporaryDirectory() as directory:
            for path, text in FILES.items():
                Path(directory, path).parent.mkdir(parents=True, exist_ok=True)
                Path(directory, path).write_text(text)
            command("upload-dir", made, directory, "/home/user/app")
        assert "node_modules" not in command("exec", made, "find app")
        command("exec", made, "sqlite3 app/items.sqlite 'CREATE TABLE items (name TEXT); INSERT INTO items VALUES (1)'")
        command("exec", made, "cd app/backend && exec uvicorn main:app >/tmp/api.log 2>&1", "--background")
        command("exec", made, "cd app/frontend && exec vite >/tmp/vite.log 2>&1", "--background")
        url = command("get-host", made, "5173")
        assert "/@vite/client" in seen_from_outside(url)
        assert seen_from_outside(f"{url}/api/items") == '["1"]'
        assert command("exec", made, "curl -sf localhost:8000/api/items") == '["1"]'
        assert "made by Vite" in seen_from_outside(f"{url}/main.js")
        updates = Updates(url)
        updates.wait_for(b'"connected"')
        command("edit", made, "/home/user/app/frontend/main.js", "made by Vite", "made again")
        updates.wait_for(b'"full-reload"')
        updates.close()
        assert "made again" in seen_from_outside(f"{url}/main.js")
        assert float(command("extend-lifetime", made, "600")) > 500
        command("pause", made)
        assert command("status", made) == "is running", "connecting to it resumes it"
        assert "/@vite/client" in seen_from_outside(url)
        with tempfile.TemporaryDirectory() as directory:
            command("download-dir", made, "/home/user/app/backend", directory)
            assert Path(directory, "main.py").read_text() == API
    finally:
        assert command("kill", made) == "killed"
    assert command("kill", made) == "not found"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    else:
        main(features_of(globals()))
