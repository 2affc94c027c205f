"""Throwaway Debian hosts in containers: `python3 -m lab`, and this API for the inventory and the tests.

`up` and `find` return a `Lab` that can be reached; `labs` lists them, `down` removes one. A `Lab` has `ssh`, `push`,
`restart`, `report` and `down`, and says how others reach it: `address`, `ssh_config`, `pyinfra_data`.
Standard library only: it runs before any virtual environment exists.
"""

from lab.cli import show_progress
from lab.create import up
from lab.errors import LabError, NoEngine, NoSuchLab, UsageError
from lab.host import Lab, down, find, labs, pyinfra_data

__all__ = [
    "Lab",
    "LabError",
    "NoEngine",
    "NoSuchLab",
    "UsageError",
    "down",
    "find",
    "labs",
    "pyinfra_data",
    "show_progress",
    "up",
]
