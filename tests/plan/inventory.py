"""One fake host with the settings of a scenario; read by pyinfra inside tests/plan/planner.py."""

import os
from pathlib import Path

from tests.plan.scenario import Scenario

_scenario = Scenario.read(Path(os.environ["SCENARIO"]))

servers = [
    (f"@fake/{name}", {"fake_delay": 0, "fake_delay_jitter": 0, **settings})
    for name, settings in _scenario.hosts.items()
]
