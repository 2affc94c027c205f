"""GET /v2/sandboxes and /sandboxes."""

from urllib.parse import quote, urlencode

import pytest

from sandboxd.e2b.lists import parse_metadata
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public


def ids(public: Public, path: str = "/v2/sandboxes", **query: object) -> list[str]:
    answer = public.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [one["sandboxID"] for one in answer.json()]


def made(public: Public, world: World, count: int) -> list[str]:
    found = []
    for number in range(count):
        found.append(public.create(metadata={"number": str(number), "ü&=": "a b"})["sandboxID"])
        world.now[0] += 10
    return found


def test_newest_first_in_e2bs_words(public: Public, world: World) -> None:
    first, second = made(public, world, 2)
    assert ids(public) == [second, first] and ids(public, order="asc") == [first, second]
    assert ids(public, "/sandboxes") == [first, second]
    listed = public.http.get("/v2/sandboxes").json()[1]
    assert listed["startedAt"] == "2027-01-15T08:00:00.000Z" and listed["endAt"] == "2027-01-15T08:05:00.000Z"
    assert (listed["state"], listed["cpuCount"], listed["memoryMB"], listed["diskSizeMB"]) == (
        "running",
        2,
        2048,
        10240,
    )
    assert listed["metadata"] == {"number": "0", "ü&=": "a b"} and "envdAccessToken" not in listed


def test_states(public: Public, world: World) -> None:
    running, paused, stopped = made(public, world, 3)
    public.http.post(f"/sandboxes/{paused}/pause")
    public.http.post(f"/sandboxes/{stopped}/pause", json={"memory": False})
    assert ids(public, state="running") == [running] and ids(public, state="paused") == [stopped, paused]
    assert len(ids(public, state="running,paused")) == len(ids(public, state=["running", "paused"])) == 3
    assert ids(public, "/sandboxes") == [running]
    assert {one["state"] for one in public.http.get("/v2/sandboxes").json()} == {"running", "paused"}
    assert "state: 'gone'" in public.refused("GET", "/v2/sandboxes", 400, params={"state": "gone"})


def test_metadata_as_the_clients_encode_it(public: Public, world: World) -> None:
    _, second = made(public, world, 2)
    both = urlencode({quote("ü&="): quote("a b")})
    assert len(ids(public, metadata=both)) == len(ids(public, "/sandboxes", metadata=both)) == 2
    assert ids(public, metadata=urlencode({quote("ü&="): quote("a b"), "number": "1"})) == [second]
    assert ids(public, metadata="number=7") == []
    assert parse_metadata("") == {} and parse_metadata("a=&b=%2525") == {"a": "", "b": "%"}


def test_pages(public: Public, world: World) -> None:
    found = made(public, world, 5)
    for order in ("asc", "desc"):
        seen, token, pages = [], "", 0
        while True:
            answer = public.http.get("/v2/sandboxes", params={"limit": 2, "nextToken": token, "order": order})
            assert answer.headers["x-total-running"] == "5"
            seen += [one["sandboxID"] for one in answer.json()]
            pages += 1
            token = answer.headers.get("x-next-token", "")
            if not token:
                break
        assert pages == 3 and seen == (found if order == "asc" else found[::-1])


def test_a_page_begins_where_the_last_one_ended_whatever_was_removed(public: Public, world: World) -> None:
    found = made(public, world, 4)[::-1]
    token = public.http.get("/v2/sandboxes", params={"limit": 2}).headers["x-next-token"]
    public.http.delete(f"/sandboxes/{found[1]}")
    assert ids(public, nextToken=token) == found[2:]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"order": "up"},
        {"nextToken": "!"},
        {"nextToken": "eA"},
        {"startedAfter": "soon"},
    ],
)
def test_bad_queries(public: Public, query: dict[str, str]) -> None:
    assert next(iter(query)) in public.refused("GET", "/v2/sandboxes", 400, params=query)


def test_by_start_and_template(public: Public, world: World) -> None:
    first, second = made(public, world, 2)
    assert ids(public, startedAfter="2027-01-15T08:00:05Z") == [second]
    told = public.http.get(f"/sandboxes/{second}").json()["startedAt"]
    assert ids(public, startedAfter=told) == [second], "at that time, or after it"
    assert ids(public, template="base:default") == [second, first] and ids(public, template="large") == []
