"""What the audit log of a host says of requests that came by a manager: who asked there."""

import json
import os
import pwd
from typing import Any

import pytest

from tests.unit.fleet.fleets import Fleet, Node
from tests.unit.fleet.test_placing import warm
from tests.unit.sandboxd.conftest import until

SELF = {"kind": "user", "id": str(os.getuid()), "name": pwd.getpwuid(os.getuid()).pw_name}


def records(node: Node) -> list[dict[str, Any]]:
    file = node.world.config.audit_log
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [one for one in lines if one["action"] != "fill"]


def of(fleet: Fleet, action: str) -> list[dict[str, Any]]:
    return [one for node in fleet.nodes.values() for one in records(node) if one["action"] == action]


def test_the_user_at_the_manager(patient: Fleet) -> None:
    """And nobody is believed who says that he is another."""
    lie = {"X-On-Behalf-Of": "user 0 root", "X-Forwarded-For": "203.0.113.7"}
    for _ in range(2):
        made = patient.unix.post("/v2/sandboxes", json={}, headers=lie).json()["sandboxID"]
        patient.unix.post(f"/sandboxes/{made}/pause", headers=lie).raise_for_status()
        patient.unix.delete(f"/sandboxes/{made}", headers=lie).raise_for_status()
    patient.unix.post("/routes/sync", headers=lie).raise_for_status()
    found = [
        (one["actor"], one["address"])
        for action in ("create", "pause", "kill", "routes")
        for one in of(patient, action)
    ]
    assert found == [(SELF, "")] * 8


def test_the_key_behind_the_console_of_the_manager(patient: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.behalf.user_name", lambda uid: "acme-console")
    headers = {"X-On-Behalf-Of": "1a2b3c4d team", "X-Forwarded-For": "203.0.113.7"}
    patient.unix.post("/v2/sandboxes", json={}, headers=headers).raise_for_status()
    (made,) = of(patient, "create")
    assert (made["actor"], made["address"]) == ({"kind": "key", "id": "1a2b3c4d", "name": "team"}, "203.0.113.7")


@pytest.mark.parametrize("pooled", [True, False])
def test_a_key_of_the_api_and_its_client(patient: Fleet, pooled: bool) -> None:
    if pooled:
        warm(patient, "b", 1)
    headers = {**patient.key("ada"), "X-Forwarded-For": "203.0.113.9", "X-On-Behalf-Of": "key 1a2b3c4d team"}
    made = patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers)
    patient.tcp.delete(f"/sandboxes/{made.json()['sandboxID']}", headers=headers).raise_for_status()
    lines = [*of(patient, "claim" if pooled else "create"), *of(patient, "kill")]
    assert [(one["actor"]["kind"], one["actor"]["name"], one["address"]) for one in lines] == [
        ("key", "ada", "203.0.113.9")
    ] * 2


def test_what_a_manager_does_by_itself(patient: Fleet) -> None:
    patient.unix.post("/pool", json={"enabled": True}).raise_for_status()
    patient.leases.make_available("b", "pause")
    until(lambda: len(of(patient, "pool")) == 3, "the pool of a host that takes nothing is not turned off")
    turned = [one["actor"] for one in records(patient.nodes["b"]) if one["action"] == "pool"]
    assert turned == [SELF, {"kind": "fleet", "id": "", "name": ""}]
