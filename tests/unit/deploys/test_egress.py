"""The egress proxy's configuration, as text."""

from __future__ import annotations

import re

import pytest

from deploys import egress
from sandboxd import wall
from sandboxd.egress import WALLED
from tests.plan.process import placed

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")


def written(name: str, case: str = "default") -> str:
    (text,) = (text for path, text in placed(case).items() if re.fullmatch(rf"/etc/[a-z-]+-sandbox/{name}", path))
    return text


def test_no_name_leads_past_the_wall_of_sandboxes() -> None:
    assert egress.CLOSED == WALLED


def test_both_listen_where_the_rules_lead() -> None:
    assert (egress.NAMES_PORT, egress.PROXY_PORTS) == (wall.NAMES_PORT, wall.PROXY_PORTS)
    assert "bind 198.18.0.1:15443" in written("egress.cfg") and "bind 192.0.2.1:15080" in written(
        "egress.cfg", "maximal"
    )
    assert "port=15353" in written("names.conf").splitlines()


def test_both_ways_are_judged_alike() -> None:
    """But for how each refuses."""
    lines = [line.split() for line in written("egress.cfg").splitlines()]
    ways = []
    for verb in (["tcp-request", "content"], ["http-request"]):
        own = [line[len(verb) :] for line in lines if line[: len(verb)] == verb and "txn.name" not in line[len(verb)]]
        ways.append([" ".join(line) for line in own if line[0] not in ("reject", "return")])
    assert ways[0] == ways[1] and any("169.254.0.0/16" in line for line in ways[0])
    assert any("10.200.0.0/16 10.199.0.0/24 198.18.0.1/32" in line for line in ways[0])


def test_settings_close_and_exempt() -> None:
    text = written("egress.cfg", "maximal")
    assert "unset-var(txn.closed)" in text and "unset-var(txn.closed)" not in written("egress.cfg")


def test_its_unit_may_deny_executable_memory() -> None:
    """A regular expression would be compiled to it."""
    assert not re.search(r"-m reg|map_reg|regsub|-i? *~", written("egress.cfg"))


def test_names_are_answered_and_nobody_is_asked() -> None:
    lines = written("names.conf").splitlines()
    assert {"address=/#/198.18.0.1", "local=/#/", "no-resolv", "no-hosts", "no-poll"} <= set(lines)
    assert not any(line.startswith(("server", "conf-", "resolv-file")) for line in lines)
