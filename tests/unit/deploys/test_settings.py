"""The defaults of group_data: complete, documented, and enough for a server that has a domain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deploys.loading import load
from tests.unit.deploys.conftest import DOMAIN, KEYS, group_data


def test_the_defaults_need_only_a_domain(data: dict[str, Any]) -> None:
    settings = load(data)
    assert settings.domain == DOMAIN
    assert (settings.wake_on_visit, settings.idle_pause_after, settings.idle_pause_s) == (True, "", 0)
    assert (settings.pool_size, settings.cleanup_schedule, settings.cleanup_older_than) == (3, "0 * * * *", "24h")
    base = settings.templates[settings.default_template]
    assert (base.image, base.memory_mb, base.cpus) == ("flourisha-sandbox", 2048, 2.0)


def test_the_lab_needs_nothing() -> None:
    settings = load({**group_data("all"), **group_data("lab")})
    assert settings.domain == "lab.test"
    assert all(key.startswith(("net.ipv4.conf.", "net.ipv6.conf.")) for key in settings.sysctls), (
        "a lab shares the workstation's kernel"
    )


def test_the_lab_overrides_only_settings_that_exist() -> None:
    assert set(group_data("lab")) <= set(group_data("all"))


def test_all_py_documents_every_setting_and_no_other() -> None:
    assert sorted(group_data("all")) == sorted(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_all_py_says_why(key: str) -> None:
    """A comment stands above the key, or above the block that the key belongs to."""
    lines = (Path(__file__).parents[3] / "group_data/all.py").read_text().splitlines()
    (at,) = [number for number, line in enumerate(lines) if re.match(rf"{key}(: [^=]+)? = ", line)]
    block = at
    while lines[block - 1].strip():
        block -= 1
    assert any(line.startswith("#") and not line.startswith("# ---") for line in lines[block:at])


def test_the_prefix_is_in_every_path(data: dict[str, Any]) -> None:
    settings = load({**data, "project": "acme"})
    assert (settings.etc, settings.state, settings.opt, settings.lib, settings.log) == (
        "/etc/acme-sandbox",
        "/var/lib/acme-sandbox",
        "/opt/acme-sandbox",
        "/usr/local/lib/acme-sandbox",
        "/var/log/acme-sandbox",
    )
