"""Throwaway Debian hosts in containers: `python3 -m lab`, and this API for the inventory and the tests.

Standard library only: it runs before any virtual environment exists.
"""

from lab.cli import show_progress
from lab.errors import LabError, NoEngine, NoSuchLab, UsageError
from lab.host import Lab, find, labs, pyinfra_data, up

__all__ = ["Lab", "LabError", "NoEngine", "NoSuchLab", "UsageError", "find", "labs", "pyinfra_data", "show_progress", "up"]
