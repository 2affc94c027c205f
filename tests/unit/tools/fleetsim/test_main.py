"""The command line: `python3 -m tools.fleetsim`."""

import json
import subprocess
import sys

import pytest

from deploys import ROOT
from tools.fleetsim.__main__ import EXAMPLES, main, parser, scene
from tools.fleetsim.policies import POLICIES
from tools.fleetsim.scene import Scene, Template
from tools.fleetsim.simulation import simulated

SHORT = ["--nodes", "3", "--warm-up", "10", "--duration", "60"]


def test_without_arguments_it_is_the_scene_of_the_defaults() -> None:
    assert scene(parser().parse_args([])) == Scene()


def test_all_arguments_reach_the_scene() -> None:
    words = (
        "--nodes 7 --memory-mb 1000 --cpus 5 --template a:10:0.5:2 --template b:20:1:0:3 --rate 3 --bursts 60:50"
        " --life pareto:9:1.5 --managers 3 --entries 2 --on-empty next --parallel 4 --max-sandboxes 9"
        " --mtbf-h 2 --repair-s 50 --leaderless 5:6 --leaderless 7:8 --warm-up 20 --duration 30 --seed 4"
    )
    found = scene(parser().parse_args(words.split()))
    assert found.templates == (Template("a", 10, 0.5, 2), Template("b", 20, 1.0, 0, 3.0))
    assert (found.nodes, found.memory_mb, found.cpus, found.rate) == (7, 1000, 5.0, 3.0)
    assert (found.burst_every_s, found.burst_size, found.life.mean, found.managers) == (60.0, 50, 9.0, 3)
    assert (found.entries, found.on_empty) == (2, "next")
    assert (found.parallel, found.max_sandboxes, found.mtbf_s, found.repair_s) == (4, 9, 7200.0, 50.0)
    assert (found.leaderless, found.warm_up_s, found.duration_s, found.seed) == (((5, 6), (7, 8)), 20.0, 30.0, 4)


def test_a_table_has_a_row_for_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    first, head, rule, *rows = capsys.readouterr().out.splitlines()
    assert first == "3 nodes with room for 192 sandboxes, pools included; seed 1"
    assert [row.split()[1] for row in rows] == list(POLICIES)
    assert len({len(line) for line in (head, rule, *rows)}) == 1 and set(rule) == set("|-: ")


def test_json_has_the_scene_and_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--policy", "random", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scene"]["nodes"] == 3 and found["scene"]["templates"][0]["name"] == "base"
    assert [result["policy"] for result in found["results"]] == ["random"]
    assert {"hit_rate", "p50_ms", "p95_ms", "p99_ms", "refused", "raft_writes_per_s"} <= set(found["results"][0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "2000"], "error: nodes 2000: give a number from 1 to 1000."),
        (["--bursts", "60"], "error: '60': give 2 numbers with a colon between, such as 60:50."),
        (["--bursts", "60:2.5"], "error: bursts '60:2.5': their size is a whole number"),
        (["--bursts", "60:inf"], "error: bursts '60:inf': their size is a whole number"),
        (["--bursts", "60:nan"], "error: bursts '60:nan': their size is a whole number"),
        (["--bursts", "inf:5"], "error: burst interval inf: give a number from 0 to 1e+09."),
        (["--mtbf-h", "inf"], "error: mtbf-h inf: give a number from 0.01 to 100000."),
        (["--mtbf-h", "-1"], "error: mtbf-h -1: give a number from 0.01 to 100000."),
        (["--mtbf-h", "1e-9"], "error: mtbf-h 1e-09: give a number from 0.01 to 100000."),
        (["--template", "a:1024:1:1:inf"], "error: template a: share inf: give a number"),
        (["--leaderless", "a:b"], "error: 'a:b': give 2 numbers"),
        (["--template", "base"], "error: template 'base': give NAME:MEMORY_MB:CPUS:POOL"),
        (["--template", ":1:1:1"], "error: template ':1:1:1'"),
        (["--template", "a:1.5:1:1"], "error: template 'a:1.5:1:1'"),
        (["--life", "long"], "error: life 'long': give fixed:MEAN"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith(said) and not streams.out


def test_a_policy_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--policy", "best"])
    assert ended.value.code == 2 and "least-loaded" in capsys.readouterr().err


def test_its_examples_can_be_typed() -> None:
    lines = [line.split()[3:] for line in EXAMPLES.splitlines() if "-m tools.fleetsim" in line]
    assert len(lines) >= 5
    for words in lines:
        scene(parser().parse_args(words))


def test_the_commands_of_the_page_can_be_typed() -> None:
    text = (ROOT / "docs/fleet.md").read_text().replace("\\\n", " ")
    commands = [line.split() for line in text.splitlines() if line.startswith("python3 -m tools.fleetsim")]
    assert len(commands) >= 12
    for words in commands:
        scene(parser().parse_args(words[3:]))


def test_a_row_of_the_page_is_what_its_command_gives() -> None:
    words = "--nodes 10 --rate 0.05 --bursts 300:25 --duration 36000 --policy least-loaded"
    found = simulated(scene(parser().parse_args(words.split())), "least-loaded")
    row = f"| least-loaded | {found.hit_rate:.1%} | {found.p95_ms:.1f} | {found.p99_ms:.1f} |".replace("%", " %")
    assert row in (ROOT / "docs/fleet.md").read_text()


def test_it_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "tools.fleetsim", *SHORT, "--policy", "least-loaded"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "| least-loaded |" in done.stdout and not done.stderr
    shown = subprocess.run([*command[:3], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert "examples:" in shown.stdout and "--bursts" in shown.stdout
