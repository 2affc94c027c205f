"""Which host is meant, when it may go, and how; that a manager is asked for it is for tests with real hosts."""

from __future__ import annotations

from typing import Any

import pytest

from tools import fleet_forget
from tools.fleet_forget import NotForgotten, commands, the_one


def node(name: str, **changes: str) -> dict[str, Any]:
    given = {"id": f"id-{name}", "role": "worker", "state": "down", "availability": "active", "address": "192.0.2.9"}
    given |= changes
    return {
        "ID": given["id"],
        "Description": {"Hostname": f"host-{name}", "Engine": {"Labels": {"sandbox.node": name}}},
        "Spec": {"Role": given["role"], "Availability": given["availability"]},
        "Status": {"State": given["state"], "Addr": given["address"]},
    }


def refusal(wanted: str, *nodes: dict[str, Any], addresses: tuple[str, ...] = ()) -> str:
    with pytest.raises(NotForgotten) as caught:
        the_one(wanted, nodes, addresses)
    return str(caught.value)


@pytest.mark.parametrize("wanted", ["b", "id-b"])
def test_a_host_that_is_gone_by_name_or_id(wanted: str) -> None:
    assert the_one(wanted, [node("a"), node("b")], [])["ID"] == "id-b"


def test_a_host_that_is_drained_may_go() -> None:
    assert the_one("b", [node("b", state="ready", availability="drain")], [])["ID"] == "id-b"


def test_a_host_without_our_label_is_called_as_it_calls_itself() -> None:
    bare = node("b")
    bare["Description"]["Engine"] = {}
    assert fleet_forget.name_of(bare) == "host-b"


def test_of_two_with_one_name_the_one_that_is_gone() -> None:
    former, present = node("b"), node("b", id="new", state="ready")
    assert the_one("b", [present, former], ["192.0.2.9"])["ID"] == "id-b"
    assert "id: id-b, other" in refusal("b", former, node("b", id="other"))


def test_a_host_at_work_stays() -> None:
    working = node("b", state="ready")
    assert "`docker-sandbox node drain b` on a manager" in refusal("b", working)
    drained = node("b", state="ready", availability="drain")
    assert "take it out of the inventory first" in refusal("b", drained, addresses=("192.0.2.9",))


def test_an_unknown_name_is_told_what_there_is() -> None:
    assert refusal("c", node("b"), node("a")) == "NODE = 'c': no host of the fleet is called so. There are: a, b"


def test_a_manager_leaves_the_vote_first() -> None:
    assert commands("docker node", node("b")) == ["docker node rm --force id-b"]
    assert commands("docker node", node("b", role="manager")) == [
        "docker node demote id-b",
        "docker node rm --force id-b",
    ]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NODE", raising=False)
    assert fleet_forget.main() == 1
    assert "make fleet-forget NODE=name" in capsys.readouterr().err
    monkeypatch.setenv("NODE", "b")
    monkeypatch.setenv("HOST", "192.0.2.1")
    assert fleet_forget.main() == 1
    assert "no manager of a fleet answers (MANAGERS=... or hosts.toml names them)" in capsys.readouterr().err
