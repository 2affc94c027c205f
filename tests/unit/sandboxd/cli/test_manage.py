"""The verbs that only talk to the control plane; and what happens when it does not answer."""

import json
from pathlib import Path

import pytest

from tests.unit.sandboxd.cli.conftest import ID, Cli, write_config
from tests.unit.sandboxd.conftest import World, down
from tests.unit.sandboxd.test_api import Client


def test_init_prints_the_id_and_nothing_else(cli: Cli) -> None:
    done = cli.run("init", "--name", "demo", "--env", "A=1", "--metadata", "k=v", "--keep", "--timeout", "90")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ID}\n".encode(), b"")
    (row,) = json.loads(cli.out("list", "--json"))
    assert (row["name"], row["keep"], row["metadata"]) == ("demo", True, {"k": "v"})
    assert row["endAt"] == "2027-01-15T08:01:30.000Z"


def test_list_and_info_for_people_and_for_programs(used: Cli) -> None:
    assert ID in used.out("list") and f"https://qa-{ID}.example.com" in used.out("list")
    assert json.loads(used.out("info", ID[:4].rstrip(), "--json"))["sandboxID"] == ID
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


def test_the_pool(cli: Cli, world: World) -> None:
    world.pool.start()
    cli.out("pool", "start", "--wait")
    status = json.loads(cli.out("pool", "status", "--json"))
    assert (status["enabled"], status["warm"], status["size"]) == (True, 2, 2)
    assert "2 of 2" in cli.out("pool", "status")
    cli.out("pool", "drain")
    assert json.loads(cli.out("pool", "status", "--json"))["warm"] == 0


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


def test_version(cli: Cli) -> None:
    assert cli.out("version").strip() and cli.out("--version") == cli.out("version")


def test_a_daemon_that_is_not_there(cli: Cli, service: Client, directory: Path) -> None:
    service.world.config.socket.unlink()
    done = cli.run("list")
    assert done.returncode == 4
    assert "does not answer" in done.stderr.decode() and "systemctl status" in done.stderr.decode()


def test_a_host_that_is_not_deployed(tmp_path: Path, cli: Cli) -> None:
    done = Cli(tmp_path / "none.toml", tmp_path).run("list")
    assert done.returncode == 1 and "deploy" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_docker_being_down_is_try_again(cli: Cli, world: World) -> None:
    world.engine.fail["image_id"] = down()
    done = cli.run("init")
    assert (done.returncode, done.stdout) == (5, b"") and "Docker does not answer" in done.stderr.decode()


def test_an_ambiguous_id_names_the_candidates(used: Cli) -> None:
    other = used.out("init").strip()
    done = used.run("kill", "0000")
    assert done.returncode == 1 and other in done.stderr.decode()


def test_an_agent_that_is_not_there(used: Cli, world: World, directory: Path) -> None:
    config = world.config
    write_config(used.config, config)
    used.config.write_text(used.config.read_text().replace(str(config.gateway.address[1]), "1"))
    done = used.run("exec", ID, "true")
    assert done.returncode == 4 and "systemctl status haproxy" in done.stderr.decode()


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
def test_wrong_usage_ends_with_2_and_names_it(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli.run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"") and words in done.stderr.decode()
