"""Errors and overload: all have the same form, and nothing of ours is shown."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from sandboxd.bodies import MAX_BODY_BYTES
from sandboxd.config import Config
from tests.unit.sandboxd.clients import Client, Direct
from tests.unit.sandboxd.conftest import World, living
from tests.unit.sandboxd.fake_engine import down


def test_broken_json_unknown_paths_and_methods_have_the_same_form(client: Direct) -> None:
    broken = client.unix.post("/v2/sandboxes", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400 and broken.json()["code"] == 400
    assert broken.json()["message"].startswith("the body is not valid JSON: Expecting property name")
    assert client.unix.get("/nothing").json() == {"code": 404, "message": "Not Found"}
    assert client.unix.put("/pool").json()["code"] == 405


def test_docker_being_down_says_when_to_try_again(client: Direct, world: World) -> None:
    world.engine.fail["image_id"] = down()
    answer = client.unix.post("/v2/sandboxes", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_an_error_of_ours_is_not_shown_but_can_be_found(
    client: Direct, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine.fail["create_network"] = RuntimeError("a secret detail")
    answer = client.unix.post("/v2/sandboxes", json={})
    assert answer.status_code == 500 and "secret" not in answer.text
    reference = answer.json()["message"].rsplit(" ", 1)[1]
    assert reference in caplog.text and "a secret detail" in caplog.text


def test_a_body_that_is_too_large_is_refused_before_it_is_kept(client: Direct) -> None:
    """Also from strangers by TCP: bodies are read before keys are checked."""
    body = b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}'
    for side in (client.unix, client.tcp):
        answer = side.post("/v2/sandboxes", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, 413)
        assert str(MAX_BODY_BYTES) in answer.json()["message"]
    large = client.unix.post("/v2/sandboxes", json={"metadata": {"a": "x" * (MAX_BODY_BYTES // 2)}})
    assert large.status_code == 201


def test_fifty_at_once_all_get_an_answer(config: Config) -> None:
    """Each is made, or refused with a time to try again; what was made is there, and nothing else."""
    with living(replace(config, max_sandboxes=30)) as world:
        served = Client(world)
        world.pool.start()
        world.pool.enable()
        together = threading.Barrier(50)

        def create(number: int) -> httpx.Response:
            together.wait(60)
            return served.unix.post("/v2/sandboxes", json={"name": f"number {number}"}, timeout=60)

        try:
            with ThreadPoolExecutor(50) as several:
                answers = list(several.map(create, range(50)))
            refused = [answer for answer in answers if answer.status_code != 201]
            assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "30")}
            made = {answer.json()["sandboxID"] for answer in answers if answer.status_code == 201}
            assert len(made) + len(refused) == 50 and 28 <= len(made) <= 30
            assert {row["sandboxID"] for row in served.unix.get("/v2/sandboxes").json()} == made
            names = {row["name"] for row in served.unix.get("/v2/sandboxes").json()}
            assert names == {f"number {number}" for number, one in enumerate(answers) if one.status_code == 201}
        finally:
            served.close()
