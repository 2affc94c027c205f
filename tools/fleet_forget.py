"""Take a host that is gone, or drained, out of the fleet: `python -m tools.fleet_forget`, run by `make fleet-forget`.

NODE in the environment is its name in the fleet, or its id. The first manager of the inventory that answers does it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from deploys.fleetengine import NODE_LABEL, socket
from deploys.hosts import HostError, Target, chosen
from deploys.settings import MANAGER, SettingError
from tools.remote import Remote, RemoteError


class NotForgotten(Exception):
    """The host stays in the fleet; the message says why and what to do."""


def main() -> int:
    try:
        node = os.environ.get("NODE", "").strip()
        if not node:
            raise NotForgotten("NODE is not given: make fleet-forget NODE=name")
        managers = [target for target in chosen(os.environ) if target.settings.get("fleet_role") == MANAGER]
        with manager_that_answers(managers) as remote:
            docker = f"docker --host unix://{socket(remote.settings)} node"
            nodes = json.loads(remote.out(f"{docker} inspect $({docker} ls --quiet)"))
            found = the_one(node, nodes, [one.address for one in remote.settings.fleet_nodes.values()])
            for command in commands(docker, found):
                remote.out(command)
    except (HostError, NotForgotten, RemoteError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{name_of(found)} ({found['ID']}) is no longer of the fleet. Its own engine does not know: if the host lives,"
    )
    print("its software and its data are still there, and `make destroy HOST=...` takes them away.")
    return 0


def manager_that_answers(managers: Sequence[Target]) -> Remote:
    """Raises NotForgotten when there is none."""
    said = []
    for target in managers:
        remote = Remote(target)
        try:
            remote.out(f"docker --host unix://{socket(remote.settings)} node ls --quiet")
            return remote
        except RemoteError as error:
            said.append(f"{target.name}: {error}")
            remote.close()
    raise NotForgotten("\n".join(["no manager of a fleet answers (MANAGERS=... or hosts.toml names them)", *said]))


def name_of(node: dict[str, Any]) -> str:
    """The name that the inventory had for it, else its host name."""
    description = node["Description"]
    labels = description.get("Engine", {}).get("Labels") or {}
    return str(labels.get(NODE_LABEL) or description.get("Hostname") or node["ID"])


def the_one(wanted: str, nodes: Sequence[dict[str, Any]], addresses: Sequence[str]) -> dict[str, Any]:
    """The host that is meant; `addresses` are those of the inventory. Raises NotForgotten when it must stay."""
    found = [node for node in nodes if wanted in (node["ID"], name_of(node))]
    if not found:
        known = ", ".join(sorted({name_of(node) for node in nodes}))
        raise NotForgotten(f"NODE = {wanted!r}: no host of the fleet is called so. There are: {known}")
    # One that was installed anew is there twice, and its former self is down.
    found = [node for node in found if node["Status"]["State"] != "ready"] or found
    if len(found) > 1:
        ids = ", ".join(node["ID"] for node in found)
        raise NotForgotten(f"NODE = {wanted!r}: several hosts are called so. Name one by its id: {ids}")
    (node,) = found
    if node["Status"]["State"] == "ready":
        if node["Status"].get("Addr") in addresses:
            raise NotForgotten(f"{wanted} is in the inventory and at work: take it out of the inventory first")
        if node["Spec"]["Availability"] != "drain":
            raise NotForgotten(
                f"{wanted} is at work: `docker-sandbox node drain {wanted}` on a manager ends that first"
            )
    return node


def commands(docker: str, node: dict[str, Any]) -> list[str]:
    """What removes it. A manager leaves the vote first, or the others would still wait for it."""
    quoted = shlex.quote(node["ID"])
    demoted = [f"{docker} demote {quoted}"] if node["Spec"]["Role"] == MANAGER else []
    return [*demoted, f"{docker} rm --force {quoted}"]


if __name__ == "__main__":
    sys.exit(main())
