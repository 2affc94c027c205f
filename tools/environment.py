"""Make the workstation's virtual environment from a lock file: `python3 -m tools.environment DIR LOCK`.

Needs nothing but Python 3.11. On Debian, whose python3 comes without venv, it installs what is missing when it may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def main(directory: str, lock: str) -> int:
    """Create the environment anew; 0 when it is complete."""
    # The name is looked up late: this file must parse with old versions to say so.
    if sys.version_info < (3, 11):  # noqa: UP036
        print(
            f"error: python3 is {sys.version.split()[0]}: needs 3.11 or newer; name another with PYTHON=...",
            file=sys.stderr,
        )
        return 1
    print(f"Making {directory} from {lock}", file=sys.stderr, flush=True)
    if not _can_make_environments() and not _install("python3-venv"):
        print("error: this Python cannot make virtual environments; install python3-venv", file=sys.stderr)
        return 1
    if shutil.which("ssh-keygen") is None and not _install("openssh-client"):
        print("error: there is no ssh; install the OpenSSH client", file=sys.stderr)
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    return subprocess.run(install_command(directory, lock), check=False).returncode


def install_command(directory: str, lock: str) -> list[str]:
    """The words that install what the lock names, and nothing whose hash it does not hold."""
    pip = [str(Path(directory) / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return [*pip, "--require-hashes", "--requirement", lock]


def _can_make_environments() -> bool:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return False
    return True


def _install(package: str) -> bool:
    """Install a Debian package where that is possible; say so."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print(f"Installing {package}", file=sys.stderr, flush=True)
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
    ):
        subprocess.run(
            command, check=False, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
    return subprocess.run(["dpkg-query", "-W", package], check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
