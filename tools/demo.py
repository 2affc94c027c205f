"""Run the calculator in a sandbox of a deployed host, and say how to open it: `python -m tools.demo [--json]`.

It makes one sandbox named `calculator`, marked --keep, and uses it again the next time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time

import httpx

from deploys import ROOT
from deploys.hosts import HostError, chosen
from deploys.settings import SettingError
from lab.settings import DEFAULT_NAME
from tools.remote import Remote, RemoteError

NAME = "calculator"
READY_S = 30
SERVER = "exec python3 -m uvicorn app:app --host 0.0.0.0 --port 8000 >server.log 2>&1"


def start(remote: Remote, name: str = NAME) -> str:
    """The URL of the running calculator. Raises RemoteError when it does not come up."""
    rows = json.loads(remote.out("docker-sandbox list --json"))
    existing = [row for row in rows if row["name"] == name]
    sandbox = existing[0]["sandboxID"] if existing else remote.out(f"docker-sandbox init --keep --name {name}")
    url = remote.out(f"docker-sandbox get-host {sandbox}")
    if not existing or not answers(remote, url):
        upload(remote, sandbox)
        remote.run(f"docker-sandbox exec {sandbox} --cwd /code/calculator --background '{SERVER}'")
    deadline = time.monotonic() + READY_S
    while not answers(remote, url):
        if time.monotonic() > deadline:
            log = remote.run(
                f"docker-sandbox exec {sandbox} 'tail -n 20 /code/calculator/server.log'", check=False
            ).stdout
            raise RemoteError(
                f"{remote.target.name}: the calculator at {url} does not answer after {READY_S} s:\n{log}"
            )
        time.sleep(0.1)
    return url


def upload(remote: Remote, sandbox: str) -> None:
    """Copy examples/calculator into the sandbox as /code/calculator, through a directory on the host."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(
            ROOT / "examples/calculator",
            "calculator",
            filter=lambda entry: None if "__pycache__" in entry.name else entry,
        )
    script = (
        'set -eu; work=$(mktemp -d); trap \'rm -rf "$work"\' EXIT; tar -xf - -C "$work"; '
        f'docker-sandbox exec {sandbox} "mkdir -p /code/calculator" </dev/null; '
        f'docker-sandbox upload {sandbox} "$work/calculator/." /code/calculator </dev/null'
    )
    remote.run(script, stdin=buffer.getvalue())


def answers(remote: Remote, url: str) -> bool:
    """Whether the calculator itself answers, through Traefik and the gateway."""
    try:
        answer = remote.request("GET", f"{url}/api/history")
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and isinstance(answer.json(), list)


def ways_to_open(remote: Remote, url: str) -> dict[str, str]:
    """Commands for the workstation that open `url` although no DNS server knows the lab's domain."""
    host, address = url.removeprefix("https://"), remote.target.address
    resolver = f"--host-resolver-rules='MAP *.{remote.settings.domain} {address}'"
    ways = {}
    if remote.settings.tls_mode == "internal":
        authority = ROOT / ".lab" / remote.target.name / "ca.pem"
        if not authority.parent.is_dir():
            authority = ROOT / "reports" / f"{remote.target.name}-ca.pem"
            authority.parent.mkdir(exist_ok=True)
        found = remote.authority()
        authority.write_text(found.read_text() if found else "")
        ways["curl"] = f"curl --resolve {host}:443:{address} --cacert {authority.relative_to(ROOT)} {url}"
        profile = f"--user-data-dir=/tmp/{remote.target.name}-browser"  # without it the next option is ignored
        accepted = f"--ignore-certificate-errors-spki-list={remote.key_digest()}"
        ways["chromium"] = f"chromium {profile} {accepted} {resolver} {url}"
    else:
        ways["curl"] = f"curl --resolve {host}:443:{address} {url}"
        ways["chromium"] = f"chromium {resolver} {url}"
    return ways


def about_lab(name: str) -> str:
    """How to look at a lab and to remove it, as commands."""
    lab_down = "make lab-down" if name == DEFAULT_NAME else f"make lab-down LAB={name}"
    return f"The host itself: python3 -m lab ssh {name}    Remove it: {lab_down}"


def main() -> int:
    parser = argparse.ArgumentParser("tools.demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments = parser.parse_args()
    try:
        with Remote(chosen(os.environ)[0]) as remote:
            url = start(remote)
            ways = ways_to_open(remote, url)
    except (HostError, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"url": url, **ways}))
        return 0
    print(f"\nThe calculator runs in a sandbox, verified, at\n\n  {url}\n")
    print("Open it from here:\n")
    for way in ways.values():
        print(f"  {way}\n")
    if remote.target.group == "lab":
        print(about_lab(remote.target.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
