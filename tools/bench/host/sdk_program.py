"""Runs in the environment of E2B's client: times its calls. Arguments: file, rounds, transfers, bytes of a small file.

Prints JSON: name -> [milliseconds, errors].
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    from e2b import Sandbox

    file, rounds, transfers, small = sys.argv[1], *(int(one) for one in sys.argv[2:5])
    found: dict[str, tuple[list[float], list[str]]] = {
        name: ([], []) for name in ("create", "run", "write", "read", "upload", "download")
    }

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            result = work()
        except Exception as error:
            found[name][1].append(repr(error))
            return None
        found[name][0].append((time.perf_counter() - start) * 1000)
        return result

    for _ in range(rounds):
        time.sleep(1)  # for the pool to have another one, as it has for people
        made = timed("create", lambda: Sandbox.create(timeout=120))
        if made is not None:
            made.kill()
    with Sandbox.create(timeout=600) as sandbox:
        sandbox.commands.run("true")  # the connection is made once
        text = "x" * small
        for _ in range(rounds):
            timed("run", lambda: sandbox.commands.run("true"))
            timed("write", lambda: sandbox.files.write("/home/user/small", text))
            timed("read", lambda: sandbox.files.read("/home/user/small"))
        for _ in range(transfers):
            with open(file, "rb") as data:
                timed("upload", lambda opened=data: sandbox.files.write("/code/large", opened))  # type: ignore[misc]
            timed("download", lambda: drained(sandbox))
    print(json.dumps(found))


def drained(sandbox: Any) -> int:
    return sum(len(piece) for piece in sandbox.files.read("/code/large", format="stream"))


if __name__ == "__main__":
    main()
