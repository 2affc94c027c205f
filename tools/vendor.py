"""Renew what the console's pages use of others: `python -m tools.vendor` fetches it with npm; `--check` only compares.

`src/console/assets/vendored.toml` says which versions; the digests in it, and the files beside it, are written here.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "src/console/assets/vendored.toml"
FILES = LIST.parent / "vendor"


def packages(text: str) -> list[dict[str, Any]]:
    """Each with name, version, licence, and files: from, to, sha256."""
    return list(tomllib.loads(text)["package"])


def differing(text: str, directory: Path) -> list[str]:
    """The names of files that are not what the list says, that are missing, or that it does not know."""
    wanted = {file["to"]: file["sha256"] for package in packages(text) for file in package["files"]}
    found = {path.name: digest(path.read_bytes()) for path in directory.iterdir()}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def renewed(text: str, digests: dict[str, str]) -> str:
    """The list with these digests, by the name that a file has here."""
    return re.sub(r'(to = "([^"]+)", sha256 = )"[0-9a-f]*"', lambda found: f'{found[1]}"{digests[found[2]]}"', text)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetched(package: dict[str, Any], directory: str) -> dict[str, bytes]:
    """What npm gives of a package, which compares it with the registry's own digest: content by the name here."""
    command = ["npm", "pack", "--silent", "--pack-destination", directory, f"{package['name']}@{package['version']}"]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
    found = {}
    with tarfile.open(Path(directory) / name) as archive:
        for file in package["files"]:
            member = archive.extractfile(f"package/{file['from']}")
            if member is None:
                raise SystemExit(f"error: {package['name']} {package['version']} has no file {file['from']}")
            found[file["to"]] = member.read()
    return found


def main() -> int:
    text = LIST.read_text()
    if "--check" in sys.argv:
        wrong = differing(text, FILES)
        for name in wrong:
            print(f"{FILES.relative_to(ROOT) / name}: not what {LIST.name} says: run `make vendor`", file=sys.stderr)
        return 1 if wrong else 0
    contents: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as directory:
        for package in packages(text):
            contents |= fetched(package, directory)
    for path in FILES.iterdir():
        path.unlink()
    for name, content in contents.items():
        (FILES / name).write_bytes(content)
    LIST.write_text(renewed(text, {name: digest(content) for name, content in contents.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
