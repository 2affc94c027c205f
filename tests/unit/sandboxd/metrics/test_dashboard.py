"""The dashboard and the alerts ask for series that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from sandboxd.errors import NotFound
from tests.unit.sandboxd.metrics.conftest import Observed

FILES = Path(__file__).parents[4] / "files"
NAME = re.compile(r"\b(?:sandbox|sandboxd|process)_[a-z0-9_]+")
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",), "unknown": ("",)}


def board() -> dict[str, Any]:
    made: dict[str, Any] = json.loads((FILES / "grafana/flourisha-sandbox.json").read_text())
    return made


def queries(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value[key] for key in ("expr", "definition") if isinstance(value.get(key), str))
        for one in value.values():
            yield from queries(one)
    elif isinstance(value, list):
        for one in value:
            yield from queries(one)


def known(observed: Observed) -> tuple[set[str], set[tuple[str, str]]]:
    """The names of all series of a scrape, and which labels each has."""
    observed.world.pool.enable()
    observed.client.create()
    observed.world.reconciler._try_tick()
    observed.world.health.report("gateway", "is down")
    observed.world.sandboxes.figures.failed("create", NotFound("x"))
    names, labels = set(), set()
    for family in text_string_to_metric_families(observed.client.unix.get("/metrics").text):
        names |= {family.name + suffix for suffix in SUFFIXES[family.type]}
        labels |= {(sample.name, label) for sample in family.samples for label in sample.labels}
    return names, labels


def test_every_series_that_is_asked_for_exists(observed: Observed) -> None:
    names, labels = known(observed)
    alerts = yaml.safe_load((FILES / "prometheus/alerts.yml").read_text())
    asked = [*queries(board()), *queries(alerts)]
    found = {name for text in asked for name in NAME.findall(text)}
    assert len(found) > 30 and sorted(found - names) == []
    for text in asked:
        for name, selectors in re.findall(r"\b((?:sandbox|sandboxd)_[a-z0-9_]+)\{([^}]*)\}", text):
            chosen = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selectors)) - {"instance", "job"}
            assert {(name, label) for label in chosen} <= labels, text


def test_the_page_about_them_names_what_there_is(observed: Observed) -> None:
    names, _ = known(observed)
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} | names
    page = (FILES.parent / "docs/observe.md").read_text().partition("### Series")[2].partition("## Audit log")[0]
    named = {name for name in re.findall(r"`((?:sandbox|sandboxd)_[a-z0-9_]+)", page)}
    assert len(named) > 20 and sorted(named - families) == []


def test_every_group_of_series_is_shown(observed: Observed) -> None:
    """What is not on the dashboard was forgotten."""
    shown = {name for text in queries(board()) for name in NAME.findall(text)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    names, _ = known(observed)
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names if not name.startswith("process_")}
    assert sorted(ours - families) == []


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    made = board()
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= made.keys() and made[
        "schemaVersion"
    ] >= 39
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["instance"]["type"] == "query"
    panels = made["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    for one in panels:
        place = one["gridPos"]
        assert place["x"] + place["w"] <= 24
        if one["type"] != "row":
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert [target["refId"] for target in one["targets"]] == sorted({t["refId"] for t in one["targets"]})
            assert all('instance=~"$instance"' in target["expr"] for target in one["targets"])


def test_alerts_are_complete() -> None:
    (group,) = yaml.safe_load((FILES / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["expr"] and rule["labels"]["severity"] in ("page", "warn") and rule["annotations"]["summary"]
    scrape = yaml.safe_load((FILES / "prometheus/scrape.yml").read_text())["scrape_configs"]
    assert [one["job_name"] for one in scrape] == ["sandbox", "sandbox-remote"]
    assert scrape[1]["authorization"]["credentials_file"]
