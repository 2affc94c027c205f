"""What clients see through the API, the same before a single host and before a fleet of two."""

from typing import Any

from sandboxd.e2b.lists import MOST
from tests.unit.fleet.fleets import Seat


def problem(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] == status
    return str(body["message"])


def test_a_sandbox_is_created_shown_and_killed(seat: Seat) -> None:
    made = seat.create(templateID="base", name="demo", metadata={"ticket": "42"})
    found = made["sandboxID"]
    assert made["url"] == f"https://qa-{found}.example.com" and made["domain"] == "example.com"
    shown = seat.unix.get(f"/sandboxes/{found}").json()
    assert (shown["sandboxID"], shown["name"], shown["state"]) == (found, "demo", "running")
    assert shown["envdAccessToken"] == made["envdAccessToken"]
    assert seat.unix.delete(f"/sandboxes/{found}").status_code == 204
    assert seat.unix.get("/v2/sandboxes").json() == []
    assert "it ended on" in problem(seat.unix.get(f"/sandboxes/{found}"), 404)
    problem(seat.unix.delete(f"/sandboxes/{found}"), 404)


def test_the_list_has_all_of_them(seat: Seat) -> None:
    made = {seat.create(name=f"n{number}")["sandboxID"] for number in range(5)}
    rows = seat.unix.get("/v2/sandboxes").json()
    assert {row["sandboxID"] for row in rows} == made and len(rows) == 5
    assert {row["state"] for row in rows} == {"running"}


def test_an_id_may_be_shortened_while_it_is_unique(seat: Seat) -> None:
    made = [seat.create()["sandboxID"] for _ in range(3)]
    short = made[0][:11]
    others = [one for one in made if one.startswith(short)]
    answer = seat.unix.get(f"/sandboxes/{short}")
    if others == made[:1]:
        assert answer.json()["sandboxID"] == made[0]
    else:
        assert "is ambiguous" in problem(answer, 409)
    assert "is ambiguous" in problem(seat.unix.get("/sandboxes/0"), 409)
    assert seat.unix.get(f"/sandboxes/{made[1]}-local").json()["sandboxID"] == made[1]


def test_pause_resume_stop_start(seat: Seat) -> None:
    path = f"/sandboxes/{seat.create()['sandboxID']}"

    def state() -> str:
        return str(seat.unix.get(path).json()["state"])

    assert seat.unix.post(f"{path}/pause").status_code == 204 and state() == "paused"
    assert seat.unix.post(f"{path}/resume", json={}).json()["state"] == "running" == state()
    assert seat.unix.post(f"{path}/stop").status_code == 204 and state() == "stopped"
    assert seat.unix.post(f"{path}/start", json={"timeout": 60}).json()["unlimited"] is False


def test_timeout_and_network(seat: Seat) -> None:
    path = f"/sandboxes/{seat.create()['sandboxID']}"
    assert seat.unix.post(f"{path}/timeout", json={"timeout": 60}).json()["unlimited"] is False
    assert "timeout: is missing" in problem(seat.unix.post(f"{path}/timeout", json={}), 400)
    changed = seat.unix.put(f"{path}/network", json={"denyOut": ["0.0.0.0/0"], "allowOut": ["192.0.2.7"]}).json()
    assert changed["network"]["denyOut"] == ["0.0.0.0/0"] and changed["network"]["allowOut"] == ["192.0.2.7"]
    assert seat.unix.get(path).json()["network"] == changed["network"]


def test_bad_requests_are_refused_in_the_same_words(seat: Seat) -> None:
    assert "template 'none' not found" in problem(seat.unix.post("/v2/sandboxes", json={"templateID": "none"}), 404)
    assert "timeout" in problem(seat.unix.post("/v2/sandboxes", json={"timeout": -1}), 400)
    broken = seat.unix.post("/v2/sandboxes", content=b"{", headers={"Content-Type": "application/json"})
    assert "not valid JSON" in problem(broken, 400)
    assert "body" in problem(seat.unix.post("/v2/sandboxes", json=[]), 400)
    assert "diskMB" in problem(seat.unix.post("/v2/sandboxes", json={"diskMB": 1}), 400)
    problem(seat.unix.get("/nothing"), 404)
    assert "1048576" in problem(seat.unix.post("/v2/sandboxes", content=b"x" * 1_100_000), 413)


def test_a_body_that_is_too_deep_is_refused_in_the_same_words(seat: Seat) -> None:
    headers = {**seat.key(), "Content-Type": "application/json"}
    for client, path in ((seat.unix, "/v2/sandboxes"), (seat.tcp, "/sandboxes")):
        assert "parsing the body" in problem(client.post(path, content=b"[" * 100_000, headers=headers), 400)


def test_a_name_that_is_no_text_is_refused_in_the_same_words(seat: Seat) -> None:
    headers = {**seat.key(), "Content-Type": "application/json"}
    for client, path, body in (
        (seat.unix, "/v2/sandboxes", b'{"volume": "\\ud800"}'),
        (seat.tcp, "/v3/templates", b'{"name": "\\ud800"}'),
        (seat.tcp, "/sandboxes", b'{"templateID": "\\ud800"}'),
    ):
        problem(client.post(path, content=body, headers=headers), 400)


def test_an_unknown_id(seat: Seat) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/stop")):
        assert "'ffffffffffff' not found" in problem(seat.unix.request(method, f"/sandboxes/ffffffffffff{path}"), 404)
    problem(seat.tcp.get("/sandboxes/ffffffffffff", headers=seat.key()), 404)


def test_a_full_host_says_so_and_when_to_come_again(seat: Seat) -> None:
    seat.create()
    for world in seat.worlds:
        world.memory_mb[0] = 1000
    answer = seat.unix.post("/v2/sandboxes", json={})
    assert "is full" in problem(answer, 503) and answer.headers["retry-after"] == "30"
    assert len(seat.unix.get("/v2/sandboxes").json()) == 1
    for world in seat.worlds:
        world.memory_mb[0] = 8192
    seat.create()


def test_e2b_without_a_key_or_with_a_wrong_one(seat: Seat) -> None:
    found = seat.create()["sandboxID"]
    for headers in ({}, {"X-API-KEY": "e2b_" + "0" * 40}, {"X-API-KEY": "none"}):
        for method, path in (
            *(("GET", "/v2/sandboxes"), ("POST", "/v2/sandboxes"), ("GET", "/sandboxes"), ("GET", "/volumes")),
            *(("GET", f"/sandboxes/{found}"), ("DELETE", f"/sandboxes/{found}"), ("GET", "/templates")),
            *(("POST", f"/sandboxes/{found}/fork"), ("POST", "/volumes"), ("GET", "/sandboxes/ffffffffffff")),
        ):
            body = {"templateID": "base", "name": "x"} if method == "POST" else None
            assert problem(seat.tcp.request(method, path, headers=headers, json=body), 401) == "Invalid API key"
    assert [row["sandboxID"] for row in seat.unix.get("/v2/sandboxes").json()] == [found]


def test_a_key_sees_its_own(seat: Seat) -> None:
    mine, others = seat.key("mine"), seat.key("others")
    made = seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=mine).json()
    path = f"/sandboxes/{made['sandboxID']}"
    assert seat.tcp.get(path, headers=mine).json()["state"] == "running"
    problem(seat.tcp.get(path, headers=others), 404)
    problem(seat.tcp.delete(path, headers=others), 404)
    assert seat.tcp.get("/v2/sandboxes", headers=others).json() == []
    assert seat.tcp.get("/teams", headers=mine).json()[0]["name"] == "mine"
    assert seat.tcp.delete(path, headers=mine).status_code == 204


def test_a_key_that_is_revoked_opens_nothing(seat: Seat) -> None:
    headers = seat.key()
    assert seat.tcp.get("/v2/sandboxes", headers=headers).status_code == 200
    (row,) = seat.unix.get("/keys").json()
    assert seat.unix.delete(f"/keys/{row['keyID']}").status_code == 204
    problem(seat.tcp.get("/v2/sandboxes", headers=headers), 401)
    assert seat.unix.get("/keys").json() == []


def test_the_limit_of_a_key(seat: Seat) -> None:
    headers = seat.key(max_sandboxes=3)
    made = [seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers) for _ in range(3)]
    answer = seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers)
    assert "may have 3 sandboxes at a time, and has 3" in problem(answer, 429) and answer.headers["retry-after"]
    (row,) = seat.unix.get("/keys").json()
    assert (row["sandboxes"], row["maxSandboxes"]) == (3, 3)
    native = seat.unix.post("/v2/sandboxes", json={"keyID": row["keyID"]})
    assert "may have 3 sandboxes" in problem(native, 429)
    assert seat.tcp.delete(f"/sandboxes/{made[0].json()['sandboxID']}", headers=headers).status_code == 204
    assert seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).status_code == 201
    assert len(seat.tcp.get("/v2/sandboxes", headers=headers).json()) == 3


def test_pages(seat: Seat) -> None:
    headers = seat.key()
    made = []
    for number in range(7):
        for world in seat.worlds:
            world.now[0] += 1
        body = {"templateID": "base", "metadata": {"odd": str(number % 2)}}
        made.append(seat.tcp.post("/v2/sandboxes", json=body, headers=headers).json()["sandboxID"])
    for order, expected in (("desc", made[::-1]), ("asc", made)):
        seen, token = [], ""
        while True:
            query = {"limit": "3", "order": order, "nextToken": token}
            answer = seat.tcp.get("/v2/sandboxes", params=query, headers=headers)
            assert answer.headers["x-total-running"] == "7"
            seen.append([row["sandboxID"] for row in answer.json()])
            if not (token := answer.headers.get("x-next-token", "")):
                break
        assert [one for page in seen for one in page] == expected and [len(page) for page in seen] == [3, 3, 1]
    odd = seat.tcp.get("/v2/sandboxes", params={"metadata": "odd=1", "order": "asc"}, headers=headers)
    assert [row["sandboxID"] for row in odd.json()] == made[1::2] and "x-next-token" not in odd.headers
    assert [row["sandboxID"] for row in seat.tcp.get("/sandboxes", headers=headers).json()] != []
    assert "limit" in problem(seat.tcp.get(f"/v2/sandboxes?limit={MOST + 1}", headers=headers), 400)
    assert "none of ours" in problem(seat.tcp.get("/v2/sandboxes?nextToken=zzz", headers=headers), 400)


def test_a_limit_with_a_point_is_one(seat: Seat) -> None:
    headers = seat.key()
    for _ in range(3):
        seat.tcp.post("/sandboxes", json={"templateID": "base"}, headers=headers).raise_for_status()
    answer = seat.tcp.get("/v2/sandboxes?limit=2.0", headers=headers)
    assert answer.status_code == 200 and len(answer.json()) == 2


def test_connect_and_refresh(seat: Seat) -> None:
    headers = seat.key()
    made = seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json()
    path = f"/sandboxes/{made['sandboxID']}"
    assert seat.tcp.post(f"/v2{path}/connect", json={"timeout": 60}, headers=headers).status_code == 200
    assert seat.tcp.post(f"{path}/pause", headers=headers).status_code == 204
    assert [row["state"] for row in seat.tcp.get("/v2/sandboxes?state=paused", headers=headers).json()] == ["paused"]
    assert seat.tcp.post(f"{path}/connect", json={"timeout": 60}, headers=headers).status_code == 201
    assert seat.tcp.post(f"{path}/timeout", json={"timeout": 90}, headers=headers).status_code == 204
    assert seat.tcp.post(f"{path}/refreshes", json={"duration": 90}, headers=headers).status_code == 204


def test_the_same_request_makes_one_sandbox(seat: Seat) -> None:
    headers = {**seat.key(), "Idempotency-Key": "once"}
    made = [seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json() for _ in range(3)]
    assert len({one["sandboxID"] for one in made}) == 1
    other = seat.tcp.post("/v2/sandboxes", json={"templateID": "large"}, headers=headers)
    assert "Idempotency-Key" in problem(other, 409)


def test_templates(seat: Seat) -> None:
    headers = seat.key()
    names = [row["templateID"] for row in seat.tcp.get("/templates", headers=headers).json()]
    assert names == ["base", "large"]
    assert [row["templateID"] for row in seat.unix.get("/templates").json()] == ["base", "large"]
    assert seat.tcp.get("/templates/aliases/base", headers=headers).json()["templateID"] == "base"
    problem(seat.tcp.get("/templates/aliases/none", headers=headers), 404)


def test_a_snapshot_is_a_template_from_then_on(seat: Seat) -> None:
    found = seat.create()["sandboxID"]
    for _ in range(3):
        seat.create()  # the other host has some, too
    assert seat.unix.post(f"/sandboxes/{found}/snapshots", json={"name": "saved"}).status_code == 201
    assert "saved" in [row["templateID"] for row in seat.unix.get("/templates").json()]
    copies = [seat.create(templateID="saved") for _ in range(3)]
    assert {one["templateID"] for one in copies} == {"saved"}
    answer = seat.unix.delete("/templates/saved")
    assert "saved" in problem(answer, 409) or answer.status_code == 204
    for one in copies:
        assert seat.unix.delete(f"/sandboxes/{one['sandboxID']}").status_code == 204
    assert seat.unix.delete("/templates/saved").status_code == 204
    problem(seat.unix.post("/v2/sandboxes", json={"templateID": "saved"}), 404)


def test_volumes(seat: Seat) -> None:
    headers = seat.key()
    made = seat.tcp.post("/volumes", json={"name": "data"}, headers=headers)
    assert made.status_code == 201
    assert "already" in problem(seat.tcp.post("/volumes", json={"name": "data"}, headers=headers), 409)
    seat.tcp.post("/volumes", json={"name": "more"}, headers=headers)
    listed = seat.tcp.get("/volumes", headers=headers).json()
    assert {row["name"] for row in listed} == {"data", "more"}
    path = f"/volumes/{made.json()['volumeID']}"
    assert seat.tcp.get(path, headers=headers).json()["name"] == "data"
    mounts = [{"name": "data", "path": "/mnt/data"}, {"name": "more", "path": "/mnt/more"}]
    body = {"templateID": "base", "volumeMounts": mounts}
    users = [seat.tcp.post("/v2/sandboxes", json=body, headers=headers) for _ in range(2)]
    assert [one.status_code for one in users] == [201, 201]
    wrong: dict[str, Any] = {"templateID": "base", "volumeMounts": [{"name": "none", "path": "/mnt/data"}]}
    assert "'none' not found" in problem(seat.tcp.post("/v2/sandboxes", json=wrong, headers=headers), 404)
    odd: list[Any] = [[1], [{"name": ["data"], "path": "/mnt/data"}], "data"]
    for mounted in odd:
        wrong = {"templateID": "base", "volumeMounts": mounted}
        assert "volumeMounts" in problem(seat.tcp.post("/v2/sandboxes", json=wrong, headers=headers), 400)
    for one in users:
        seat.tcp.delete(f"/sandboxes/{one.json()['sandboxID']}", headers=headers)
    assert seat.tcp.delete(path, headers=headers).status_code == 204
    problem(seat.tcp.get(path, headers=headers), 404)


def test_a_named_volume_comes_back(seat: Seat) -> None:
    first = seat.create(volume="work")
    problem(seat.unix.post("/v2/sandboxes", json={"volume": "work"}), 409)
    seat.unix.delete(f"/sandboxes/{first['sandboxID']}")
    seat.create(volume="work")
    assert [row["name"] for row in seat.unix.get("/volumes").json()] == ["work"]


def test_pool_and_cleanup(seat: Seat) -> None:
    state = seat.unix.post("/pool", json={"enabled": True}).json()
    assert state["enabled"] and [pool["template"] for pool in state["pools"]] == ["base"]
    assert seat.unix.get("/pool").json()["enabled"] is True
    assert seat.unix.post("/pool", json={"enabled": False}).json()["enabled"] is False
    assert "template" in problem(seat.unix.post("/pool", json={"enabled": True, "template": "none"}), 404)
    kept, gone = seat.create(keep=True)["sandboxID"], seat.create()["sandboxID"]
    for world in seat.worlds:
        world.now[0] += 1
    done = seat.unix.post("/cleanup", json={"olderThan": 0.0}).json()
    assert done["removed"] == [gone] and seat.unix.get(f"/sandboxes/{kept}").status_code == 200
    assert "olderThan" in problem(seat.unix.post("/cleanup", json={}), 400)


def test_health_and_figures(seat: Seat) -> None:
    assert seat.unix.get("/health").text == "ok\n" and seat.tcp.get("/health").text == "ok\n"
    made = seat.create()["sandboxID"]
    assert seat.unix.get("/overview").json()["present"]["running"] == 1
    assert seat.unix.get("/routes").json()["in_step"] is True
    stats = seat.unix.get("/stats").json()
    assert [one["sandboxID"] for one in stats["sandboxes"]] == [made] and stats["clock"] > 0
    assert [one["sandboxID"] for one in seat.unix.get(f"/stats?id={made}").json()["sandboxes"]] == [made]
    problem(seat.unix.get("/stats?id=ffffffffffff"), 404)
    assert "sandbox" in seat.unix.get("/metrics").text
