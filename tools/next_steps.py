"""What is left to do outside of the hosts, printed when a deploy is done: DNS records, and whom clients must trust.

`python -m tools.next_steps`. It asks each host, and changes nothing.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence

from deploys.hosts import HostError, Target, chosen
from deploys.settings import WORKER, SettingError, Settings
from tools.remote import Remote, RemoteError


def main() -> int:
    try:
        for target in ways_in(chosen(os.environ)):
            with Remote(target) as remote:
                steps = [trust(target, remote.settings)]
                # The domain of a lab is no real one.
                if target.group != "lab":
                    found = json.loads(remote.run("docker-sandbox doctor --no-probe --json", check=False).stdout)
                    steps += [names(target.name, remote.settings, found["findings"])]
                print("\n".join(filter(None, steps)))
    except (HostError, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def ways_in(targets: Sequence[Target]) -> list[Target]:
    """Where clients come in: not by the workers of a fleet."""
    return [target for target in targets if target.settings.get("fleet_role") != WORKER]


def trust(target: Target, wanted: Settings) -> str:
    """How a machine is made to trust the host's own authority; "" where clients know the authority."""
    if wanted.tls_mode != "internal":
        return ""
    file = f"/usr/local/share/ca-certificates/{wanted.domain}.crt"
    return (
        f"\nThe certificate of {target.name} is from its own authority. To trust that on Debian or Ubuntu:\n\n"
        f"  {shell(target)} docker-sandbox ca | sudo tee {file} >/dev/null && sudo update-ca-certificates\n\n"
        "For other systems, browsers, Python and Node: docs/certificates.md"
    )


def shell(target: Target) -> str:
    """The words before a command that runs it as root on the host."""
    if target.group == "lab":
        return f"python3 -m lab ssh {target.name}"
    words = ["ssh"]
    words += ["-p", str(target.port)] if target.port != 22 else []
    words += ["-i", target.key] if target.key else []
    words += [f"{target.user}@{target.address}", *(["sudo"] if target.user != "root" else [])]
    return shlex.join(words)


def names(host: str, wanted: Settings, findings: list[dict[str, str]]) -> str:
    """What the host itself says about the names below its domain, from the findings of `docker-sandbox doctor`, which
    on a manager of a fleet are those of all hosts.
    """
    (found,) = [one for one in findings if one["name"] in ("dns", f"{host}: dns")]
    lines = [f"\nDNS: {found['seen']}"] + ([f"  {found['remedy']}"] if found["remedy"] else [])
    if wanted.tls_mode == "acme":
        through = f"made by Traefik for each order, through {wanted.acme_dns_provider}"
        lines.append(f"  _acme-challenge.{wanted.domain} TXT: {through}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
