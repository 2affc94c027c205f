"""The page as a whole: complete, valid, and still there when a part of it is not."""

import re

import pytest

from sandboxd.errors import EngineError
from tests.unit.sandboxd.fake_engine import down
from tests.unit.sandboxd.metrics.conftest import Observed

NAME = re.compile(r"(sandbox|sandboxd|process)_[a-z0-9_]+")


def test_every_family_has_a_help_text_a_type_and_a_name_of_ours(observed: Observed) -> None:
    observed.client.create()
    text = observed.client.unix.get("/metrics").text
    helped = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    typed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert helped.keys() == typed.keys() and len(typed) > 30
    assert [name for name in typed if not NAME.fullmatch(name)] == []
    assert [name for name, kind in typed.items() if (kind == "counter") != name.endswith("_total")] == []
    assert observed.errors() == []


def test_both_forms_that_prometheus_asks_for(observed: Observed) -> None:
    get = observed.client.unix.get
    plain = get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    open_metrics = get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("broken", "parts"),
    [
        ("proc/meminfo", ["memory"]),
        ("proc/loadavg", ["load"]),
        ("proc/net/route", ["network"]),
        ("proc/net/stat/nf_conntrack", ["conntrack"]),
    ],
)
def test_a_part_that_cannot_be_read_is_left_out_and_named(observed: Observed, broken: str, parts: list[str]) -> None:
    (observed.root / broken).write_text("of another\nkernel\n")
    assert observed.errors() == parts
    assert observed.value("sandbox_instances", state="running", template="base") == 0


def test_neither_docker_nor_the_gateway_is_needed(observed: Observed) -> None:
    observed.world.engine.fail["data_root"] = down()
    observed.world.haproxy.stop()
    (observed.root / "down").touch()
    assert observed.errors() == ["gateway", "certificate", "disks"]
    observed.world.engine.fail["data_root"] = EngineError("refused")
    assert "sandboxd_build_info" in observed.samples()


def test_docker_is_asked_nothing_about_single_sandboxes(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        observed.client.create()
    observed.world.sandboxes.settle()
    asked = list[str]()
    monkeypatch.setattr(observed.world.engine, "_enter", asked.append)
    observed.samples()
    assert asked == ["data_root"]
