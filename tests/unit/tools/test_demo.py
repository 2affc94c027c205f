"""What the demonstration says at its end; the rest needs a deployed host."""

import os
import subprocess

from deploys import ROOT
from tools.demo import about_lab


def test_the_lab_that_it_says_how_to_remove_is_this_one() -> None:
    for name, command in (("lab", "make lab-down"), ("other", "make lab-down LAB=other")):
        said = about_lab(name)
        assert f"python3 -m lab ssh {name} " in said and said.endswith(f"Remove it: {command}")
        make = [*command.split(), "--dry-run", "--no-print-directory"]
        done = subprocess.run(
            make, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[1:] == ["-m", "lab", "down", name]
