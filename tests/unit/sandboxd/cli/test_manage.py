"""The verbs that only talk to the control plane; and what happens when it does not answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from sandboxd import __version__
from sandboxd.cli import manage
from sandboxd.cli.verbs import every_name, find
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane, Run
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_engine import down


def test_init_prints_the_id_and_nothing_else(cli: Cli) -> None:
    done = cli.run("init", "--name", "demo", "--env", "A=1", "--metadata", "k=v", "--keep", "--timeout", "90")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ID}\n".encode(), b"")
    (row,) = json.loads(cli.out("list", "--json"))
    assert (row["name"], row["keep"], row["metadata"]) == ("demo", True, {"k": "v"})
    assert row["endAt"] == "2027-01-15T08:01:30.000Z"


def test_list_and_info_for_people_and_for_programs(used: Cli) -> None:
    assert ID in used.out("list") and f"https://qa-{ID}.example.com" in used.out("list")
    assert json.loads(used.out("info", ID[:4], "--json"))["sandboxID"] == ID
    assert "base" in used.out("info", ID)
    assert "Token" not in used.out("info", ID, "--json"), "a token in a terminal ends up in a log"


def test_get_host(used: Cli) -> None:
    assert used.out("get-host", ID) == f"https://qa-{ID}.example.com\n"
    assert used.out("get-host", ID, "--port", "5173") == f"https://5173-{ID}.example.com\n"


def test_kill_one_and_several(used: Cli, world: World) -> None:
    second = used.out("init").strip()
    done = used.run("kill", ID, "ffffffffffff", second)
    assert done.returncode == 3 and b"ffffffffffff" in done.stderr
    assert world.engine.empty(), "those that exist are removed all the same"


def test_cleanup(used: Cli, world: World) -> None:
    kept = used.out("init", "--keep").strip()
    world.now[0] += 7200
    answer = json.loads(used.out("cleanup", "--older-than", "1h", "--json"))
    assert answer == {"removed": [ID], "kept": [kept]}


def test_routes(used: Cli, world: World) -> None:
    assert used.run("routes", "status", "--quiet").returncode == 0
    world.haproxy.map = []
    drift = used.run("routes", "status", "--quiet")
    assert (drift.returncode, drift.stdout) == (1, b"")
    assert ID in used.run("routes", "status").stdout.decode()
    used.out("routes", "sync")
    assert used.run("routes", "status", "--quiet").returncode == 0


def test_version(lone: Cli) -> None:
    assert lone.out("version").strip() and lone.out("--version") == lone.out("version")


def test_a_daemon_that_is_not_there(lone: Cli, control: ControlPlane) -> None:
    control.path.unlink()
    done = lone.run("list")
    assert done.returncode == 4
    assert "does not answer" in done.stderr.decode() and "systemctl status" in done.stderr.decode()


def test_a_host_that_is_not_deployed(tmp_path: Path) -> None:
    done = Cli(tmp_path / "none.toml", tmp_path).run("list")
    assert done.returncode == 1 and "deploy" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_docker_being_down_is_try_again(cli: Cli, world: World) -> None:
    world.engine.fail["image_id"] = down()
    done = cli.run("init")
    assert (done.returncode, done.stdout) == (5, b"") and "Docker does not answer" in done.stderr.decode()


def test_a_full_host_is_try_again(cli: Cli, world: World) -> None:
    world.memory_mb[0] = 1000
    done = cli.run("init")
    assert (done.returncode, done.stdout) == (5, b"") and "memory_reserve_mb keeps 1024 MB free" in done.stderr.decode()


def test_an_ambiguous_id_names_the_candidates(used: Cli) -> None:
    other = used.out("init").strip()
    done = used.run("kill", "0000")
    assert done.returncode == 1 and other in done.stderr.decode()


def test_a_gateway_that_is_not_there(lone: Cli) -> None:
    done = lone.run("exec", ID, "true")
    assert done.returncode == 4 and "systemctl status haproxy" in done.stderr.decode()


ROUTES = {"in_step": True, "routes": 2, "missing": [], "stale": [], "gateway": ""}


def test_init_sends_what_was_typed(run: Run, control: ControlPlane, sandbox: dict[str, Any]) -> None:
    control.answer("POST /v2/sandboxes", 201, sandbox)
    assert run("init") == (0, f"{ID}\n", "")
    words = (
        "--template big --timeout 2m --keep --name n --env A=1 --env B= --metadata k=v --cold --disk 20g --volume data"
        " --network none --allow 192.0.2.0/24 --deny 10.0.0.0/8 --access token --no-wake --idle-pause 30m"
    )
    assert run("init", *words.split())[0] == 0
    nothing = {"keep": False, "name": "", "envVars": {}, "metadata": {}, "cold": False, "diskMB": 0, "volume": ""}
    network = {"network": {"mode": "", "allowOut": [], "denyOut": []}}
    assert control.requests[0].body == {"templateID": "", "timeout": None, **nothing, **network, "access": "public"}
    assert control.requests[1].body == {
        "templateID": "big",
        "timeout": 120,
        "keep": True,
        "name": "n",
        "envVars": {"A": "1", "B": ""},
        "metadata": {"k": "v"},
        "cold": True,
        "diskMB": 20480,
        "volume": "data",
        "network": {"mode": "none", "allowOut": ["192.0.2.0/24"], "denyOut": ["10.0.0.0/8"]},
        "access": "token",
        "wake": False,
        "idlePause": 1800,
    }


def test_json_has_everything_but_the_token(run: Run, control: ControlPlane, sandbox: dict[str, Any]) -> None:
    control.answer("POST /v2/sandboxes", 201, sandbox)
    public = {key: value for key, value in sandbox.items() if key != "envdAccessToken"}
    for words in (("init",), ("info", ID)):
        code, out, err = run(*words, "--json")
        assert (code, json.loads(out), err) == (0, public, "")


def test_an_unknown_template(run: Run, control: ControlPlane) -> None:
    control.answer("POST /v2/sandboxes", 404, {"code": 404, "message": "template 'x' not found"})
    assert run("init", "--template", "x") == (3, "", "docker-sandbox: error: template 'x' not found\n")


def test_the_table_of_sandboxes(run: Run, control: ControlPlane, sandbox: dict[str, Any]) -> None:
    control.answer("GET /v2/sandboxes", 200, [sandbox, {**sandbox, "name": "", "keep": True}])
    code, out, _ = run("list")
    head, first, second = out.splitlines()
    assert code == 0 and head.split() == ["ID", "NAME", "TEMPLATE", "STATE", "AGE", "ENDS", "CLEANUP", "ACCESS", "URL"]
    assert (
        first.split()[:4] == [ID, "demo", "base", "running"] and " never " in first and first.endswith(sandbox["url"])
    )
    assert second.split()[1] == "-" and " spares it " in second
    assert head.index("URL") == first.index("https") == second.index("https")
    assert json.loads(run("list", "--json")[1])[0] == sandbox


def test_no_sandboxes(run: Run, control: ControlPlane) -> None:
    control.answer("GET /v2/sandboxes", 200, [])
    assert "docker-sandbox init" in run("list")[1]
    assert run("list", "--json") == (0, "[]\n", "")


def test_the_details_of_a_sandbox(run: Run) -> None:
    code, out, _ = run("info", ID)
    shown = dict(line.split("  ", 1) for line in out.splitlines())
    values = {name.strip(): value.strip() for name, value in shown.items()}
    assert code == 0 and (values["id"], values["name"], values["template"]) == (ID, "demo", "base")
    assert values["limits"] == "2048 MB of memory, 2 CPUs, 10240 MB at /code" and values["metadata ticket"] == "42"
    assert values["ends"] == "never" and values["address"] == "172.20.0.2"


def test_kill_prints_nothing_and_goes_on_after_a_failure(run: Run, control: ControlPlane) -> None:
    for name in ("a", "c"):
        control.answer(f"DELETE /sandboxes/{name}", 204)
    control.answer("DELETE /sandboxes/b", 409, {"code": 409, "message": "'b' is ambiguous"})
    assert run("kill", "a", "c") == (0, "", "")
    code, out, err = run("kill", "a", "b", "x", "c", "--json")
    assert code == 1 and json.loads(out) == {"killed": ["a", "c"]}
    assert err.splitlines()[0] == "docker-sandbox: error: 'b' is ambiguous" and len(err.splitlines()) == 2


def test_get_host_as_json(run: Run) -> None:
    assert json.loads(run("get-host", ID, "--json")[1]) == {"url": f"https://qa-{ID}.example.com"}
    assert json.loads(run("get-host", ID, "--port", "1", "--json")[1]) == {"url": f"https://1-{ID}.example.com"}


def test_cleanup_sends_seconds(run: Run, control: ControlPlane) -> None:
    control.answer("POST /cleanup", 200, {"removed": ["a", "b"], "kept": ["c"]})
    assert run("cleanup", "--older-than", "1h") == (0, "removed 2: a b; kept 1\n", "")
    assert run("cleanup", "--unknown")[0] == 0
    bodies = [request.body for request in control.requests]
    assert bodies == [{"olderThan": 3600, "unknown": False}, {"olderThan": 86400, "unknown": True}]
    control.answer("POST /cleanup", 200, {"removed": [], "kept": []})
    assert run("cleanup")[1] == "removed 0; kept 0\n"


def test_the_state_of_the_routes(run: Run, control: ControlPlane) -> None:
    control.answer("GET /routes", 200, ROUTES)
    code, out, _ = run("routes", "status")
    assert code == 0 and "in step  yes" in out and "missing  -" in out and "gateway" not in out
    differs = {**ROUTES, "in_step": False, "missing": ["a", "b"], "stale": ["c"], "gateway": "HAProxy does not answer"}
    control.answer("GET /routes", 200, differs)
    code, out, _ = run("routes", "status")
    assert code == 1 and "missing  a b" in out and "stale    c" in out and "gateway  HAProxy does not answer" in out
    assert run("routes", "status", "--quiet") == (1, "", "")
    assert json.loads(run("routes", "status", "--json")[1]) == differs
    control.answer("POST /routes/sync", 200, ROUTES)
    assert run("routes", "sync", "--quiet") == (0, "", "")


def test_the_version_needs_no_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = Cli(tmp_path / "none.toml", tmp_path)
    assert nowhere.call("version") == 0 and capsys.readouterr().out == f"docker-sandbox {__version__}\n"
    assert nowhere.call("version", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


def test_every_verb_of_the_module_has_its_action() -> None:
    assert set(manage.ACTIONS) | {"version"} == {name for name in every_name() if find(name).module == "manage"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "nonsense"),
        (("init", "--timeout", "never"), "never"),
        (("init", "--env", "novalue"), "novalue"),
        (("get-host", ID, "--port", "70000"), "70000"),
        (("exec", ID), "COMMAND"),
        (("kill",), "ID"),
        (("cleanup", "--older-than", "soon"), "soon"),
        (("pool", "stop"), "stop"),
        ((), "usage"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_it(lone: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = lone.run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"") and words in done.stderr.decode()
