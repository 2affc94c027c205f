"""One host: does what a request says, each in a thread of its own, as sandboxd would with the same storage.

Request: id, do, with, and `at`, the machine's monotonic clock in seconds before which nothing is done: so two hosts
begin in the same moment. Answer: id, and `value` or `error` with the name and the words of an exception.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from sandboxd.disks import Disks
from sandboxd.sharedstore import SharedStore

NAME = sys.argv[1]
STORAGE = Path("/srv") / NAME
WRITING = threading.Lock()
HELD: list["subprocess.Popen[bytes]"] = []


def main() -> None:
    for line in sys.stdin:
        threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()


def answer(request: dict[str, Any]) -> None:
    said: dict[str, Any] = {"id": request["id"]}
    try:
        while time.monotonic() < request.get("at", 0.0):
            pass  # closer than any sleep
        said["value"] = plain(DO[request["do"]](*request["with"]))
    except Exception as error:
        said["error"], said["words"] = type(error).__name__, str(error)
    with WRITING:
        print(json.dumps(said), flush=True)


def plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def store(wait_s: float, method: str, *arguments: Any) -> Any:
    """Of SharedStore, made anew each time: what it knows is on the storage alone."""
    return getattr(SharedStore(STORAGE, NAME, wait_s), method)(*arguments)


def disks(method: str, *arguments: Any) -> Any:
    """Of Disks, whose volumes are all on the storage."""
    shared = SharedStore(STORAGE, NAME)
    made = Disks(Path("/var/lib") / NAME, elsewhere=shared.image)
    return getattr(made, method)(*(Path(word) if str(word).startswith("/") else word for word in arguments))


def run(command: str, timeout_s: float) -> dict[str, Any]:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=timeout_s, check=False)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def hold(file: str) -> int:
    """Another process has the lock from now on. Returns its number."""
    HELD.append(subprocess.Popen([sys.executable, "-m", "tests.nfs.inside.holder", file], stdout=subprocess.PIPE))
    assert HELD[-1].stdout is not None and HELD[-1].stdout.readline() == b"held\n"
    return HELD[-1].pid


DO: dict[str, Callable[..., Any]] = {"store": store, "disks": disks, "run": run, "hold": hold, "clock": time.monotonic}

main()
