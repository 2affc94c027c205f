"""Renew every lock file from its `.in` file: `python -m tools.lock`. Review the difference before a commit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Debian 12 has Python 3.11: what is locked must run there and on everything newer.
OPTIONS = [
    "--quiet",
    "--universal",
    "--python-version",
    "3.11",
    "--generate-hashes",
    "--no-header",
    "--no-emit-index-url",
]


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([f"{directory}/bin/pip", "install", "--quiet", "uv"], check=True)
        for source in sorted([*ROOT.glob("requirements/*.in"), *ROOT.glob("files/images/*/*.in")]):
            target = source.with_suffix(".txt")
            print(f"Locking {target.relative_to(ROOT)}", file=sys.stderr, flush=True)
            command = [f"{directory}/bin/uv", "pip", "compile", *OPTIONS, "--upgrade"]
            subprocess.run([*command, str(source), "--output-file", str(target)], cwd=ROOT, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
