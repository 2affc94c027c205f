"""What can be asked, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from tools.fleetsim.errors import BadScene
from tools.fleetsim.scene import Scene, Template

NAN = float("nan")


def test_room_is_by_what_runs_out_first() -> None:
    base = Template("base", 2048, 2.0, 3)
    assert Scene(nodes=10, memory_mb=65536, cpus=32, templates=(base,)).room == 160
    assert Scene(nodes=10, memory_mb=65536, cpus=256, templates=(base,)).room == 320
    assert Scene(nodes=10, templates=(replace(base, memory_mb=64, cpus=0),)).room == 3000


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"nodes": 0}, "nodes 0: give a number from 1 to 1000"),
        ({"nodes": 1001}, "nodes 1001"),
        ({"rate": -1.0}, "rate -1"),
        ({"rate": NAN}, "rate nan"),
        ({"rate": 0.0}, "give a rate of creates per second, or bursts"),
        ({"burst_size": 5}, "give both"),
        ({"burst_every_s": 5.0}, "give both"),
        ({"managers": 2}, "managers 2: give 1 or 3"),
        ({"managers": 3, "nodes": 2}, "managers 3"),
        ({"entries": 4}, "entries 4: give a number from 1 to 3"),
        ({"entries": 0}, "entries 0"),
        ({"on_empty": "wait"}, "on-empty 'wait': give make or next"),
        ({"parallel": 0}, "parallel 0"),
        ({"duration_s": 0.0}, "duration 0"),
        ({"mtbf_s": NAN}, "mtbf-h nan"),
        ({"repair_s": 1.0}, "repair-s 1"),
        ({"leaderless": ((-1.0, 5.0),)}, "leaderless moment -1"),
        ({"templates": ()}, "template: give one or more"),
        ({"templates": (Template("a", 1, 1, 1),) * 2}, "a name of its own"),
        ({"templates": (Template("a", 70000, 1, 1),)}, "template a: memory 70000: give a number from 1 to 65536"),
        ({"templates": (Template("a", 1, 33, 1),)}, "template a: cpus 33"),
        ({"templates": (Template("a", 1, 1, -1),)}, "template a: pool -1"),
        ({"templates": (Template("a", 1, 1, 1, 0),)}, "template a: share 0"),
    ],
)
def test_what_cannot_be_is_named_with_its_value(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(BadScene) as caught:
        Scene(**changed)
    assert words in str(caught.value)
