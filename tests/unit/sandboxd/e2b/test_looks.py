"""Details, metrics, logs, snapshots, health."""

import pytest

from sandboxd.cgroups import Usage
from sandboxd.e2b.looks import level, line, metric
from sandboxd.history import Event
from sandboxd.proc import Disk
from sandboxd.stats import Sample
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public


def test_details(public: Public) -> None:
    made = public.create()
    found = public.http.get(f"/sandboxes/{made['sandboxID']}").json()
    assert found["envdAccessToken"] == made["envdAccessToken"] and found["domain"] == "example.com"
    assert found["lifecycle"] == {"onTimeout": "kill", "autoResume": False}
    assert "address" not in found and "container" not in found


def usage(cpu_ns: int) -> Usage:
    return Usage(cpu_ns, 2.0, 100, 1000, 3, 1024, 0)


def test_a_metric_has_every_field_of_e2bs(public: Public, world: World) -> None:
    (row,) = world.ledger.find(public.create()["sandboxID"])
    first = Sample(row, "running", usage(0))
    second = Sample(row, "running", usage(100_000_000), None, Disk(5, 50))
    assert metric(first, second, 1_800_000_000.5, 0.1) == (
        row.id,
        {
            "timestamp": "2027-01-15T08:00:00.500Z",
            "timestampUnix": 1_800_000_000,
            "cpuCount": 2,
            "cpuUsedPct": 50.0,
            "memUsed": 100,
            "memTotal": 1000,
            "memCache": 0,
            "diskUsed": 5,
            "diskTotal": 50,
        },
    )
    late = metric(first, second, 1_800_000_000.5, 0.4)[1]
    assert late is not None and late["cpuUsedPct"] == 12.5, "of the time that has passed, however long that was"
    assert metric(None, Sample(row, "paused"), 1.0, 0.1) == (row.id, None)


def test_metrics_of_nothing(public: Public) -> None:
    assert public.http.get("/sandboxes/metrics", params={"sandbox_ids": "a,b"}).json() == {"sandboxes": {}}
    public.refused("GET", "/sandboxes/abc/metrics", 404)


def test_logs_of_both_forms(public: Public) -> None:
    found = public.create()["sandboxID"]
    assert public.http.get(f"/sandboxes/{found}/logs").json() == {"logs": [], "logEntries": []}
    assert public.http.get(f"/v2/sandboxes/{found}/logs", params={"direction": "backward"}).json() == {"logs": []}
    public.refused("GET", f"/v2/sandboxes/{found}/logs", 400, params={"limit": 0})


@pytest.mark.parametrize(
    ("text", "name"), [("envd: WARNING: x: y", "warn"), ("envd: INFO: listening", "info"), ("Traceback", "info")]
)
def test_levels(text: str, name: str) -> None:
    assert level(text) == name
    assert line(Event(1.0, "log", text)) == {"logger": "envd", "level": name, "message": text}


def test_snapshots_can_be_used_listed_and_removed(public: Public) -> None:
    found = public.create()["sandboxID"]
    answer = public.http.post(f"/sandboxes/{found}/snapshots", json={"name": "ready:v1"})
    assert (answer.status_code, answer.json()) == (201, {"snapshotID": "ready", "names": ["ready"]})
    unnamed = public.http.post(f"/sandboxes/{found}/snapshots").json()["snapshotID"]
    assert {one["snapshotID"] for one in public.http.get("/snapshots").json()} == {"ready", unnamed}
    assert public.create(templateID="ready")["templateID"] == "ready"
    assert public.http.delete(f"/templates/{unnamed}").status_code == 204
    public.refused("DELETE", "/templates/ready", 409)
    public.refused("DELETE", "/templates/base", 400)
    public.refused("POST", f"/sandboxes/{found}/snapshots", 400, json={"name": "../x"})


def test_templates_are_listed_and_found_by_name(public: Public) -> None:
    found = public.create()["sandboxID"]
    public.http.post(f"/sandboxes/{found}/snapshots", json={"name": "ready"})
    for path in ("/templates", "/v2/templates"):
        rows = {one["templateID"]: one for one in public.http.get(path).json()}
        assert rows["base"]["memoryMB"] == 2048 and rows["base"]["buildStatus"] == "ready"
        assert rows["ready"]["createdAt"] == "2027-01-15T08:00:00.000Z"
    assert public.http.get("/templates/aliases/team%2Fready").json() == {"templateID": "ready", "public": False}
    assert "not found" in public.refused("GET", "/templates/aliases/nothing", 404)


def test_a_template_is_private_to_the_host_and_stays_so(public: Public) -> None:
    for path in ("/templates/base", "/v2/templates/base"):
        assert public.http.patch(path, json={"public": False}).json() == {"names": ["base"]}
        assert "cannot be published" in public.refused("PATCH", path, 400, json={"public": True})
    public.refused("PATCH", "/v2/templates/nothing", 404, json={"public": False})


def test_the_team_is_the_name_of_the_key(public: Public) -> None:
    (team,) = public.http.get("/teams").json()
    assert (team["teamID"], team["name"], team["apiKey"], team["isDefault"]) == ("team", "team", "", True)


def test_health_needs_no_key(public: Public) -> None:
    assert public.http.get("/health", headers={"X-API-KEY": ""}).text == "ok\n"
