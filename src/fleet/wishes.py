"""What a new sandbox needs, and the request that asks for it: values only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.nodes import Headers


@dataclass(frozen=True)
class Wish:
    """What a new sandbox needs: its template, hosts that it is bound to, each with why, and the name of its key.

    `pooled`: a member of a pool will do.
    """

    template: str
    bound: Mapping[str, str]
    pooled: bool
    owner: str = ""


@dataclass(frozen=True)
class Request:
    """A create as it came."""

    api: str
    target: str
    headers: Headers
    body: bytes
    repeat: str = ""  # equal ones are the same request, which must not be done twice; empty for none


def bindings(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Host -> what is on it, of (host, what); of what is on no host yet the host is empty."""
    bound: dict[str, list[str]] = {}
    for node, what in found:
        if node:
            bound.setdefault(node, []).append(what)
    return {node: " and ".join(whats) for node, whats in bound.items()}


def labels(project: str, wish: Wish, sandbox_id: str = "") -> dict[str, str]:
    """Of the lease of a sandbox that is made for that wish, or has just been made."""
    return {
        "sandbox.project": project,
        "sandbox.id": sandbox_id,
        "sandbox.template": wish.template,
        "sandbox.state": "running",
        "sandbox.owner": wish.owner,
        "sandbox.ends": "",
    }
