"""Make the first API key of each host that never had one, show it, this once, and name the console's address.

`python -m tools.first_key`
"""

from __future__ import annotations

import os
import sys

from deploys.hosts import HostError, Target, chosen
from deploys.settings import SettingError
from tools.remote import Remote, RemoteError

NAME = "default"


def main() -> int:
    try:
        for target in chosen(os.environ):
            if target.settings.get("fleet_role") and not of_its_fleet(target):
                continue
            with Remote(target) as remote:
                key = remote.out(f"docker-sandbox key create {NAME} --first 2>/dev/null")
                if key:
                    print(message(target.name, remote.settings.domain, key))
                if remote.settings.console:
                    print(console(target.name, remote.settings.domain))
    except (HostError, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def of_its_fleet(target: Target) -> bool:
    """Whether the target is the one that speaks for its fleet, whose keys are the same on all its hosts."""
    first: str = next(iter(target.settings["fleet_nodes"]))
    return target.name == first


def message(host: str, domain: str, key: str) -> str:
    return (
        f"\nPrograms use {host} by E2B's API with this key, which is not shown again:\n\n"
        f"  export E2B_DOMAIN={domain} E2B_API_KEY={key}\n\n"
        "More keys: docker-sandbox key create NAME. What to know: docs/migrate-from-e2b.md"
    )


def console(host: str, domain: str) -> str:
    return (
        f"\nThe console of {host}: https://console.{domain}\n"
        "Any key signs in and shows its own sandboxes. For the whole host: docker-sandbox key create NAME --host"
    )


if __name__ == "__main__":
    sys.exit(main())
