"""What a kernel runs before anything else."""

import subprocess
import sys
from pathlib import Path

from interpreter.languages import LANGUAGES


def test_the_first_package_of_a_user_is_found_by_a_python_that_runs_already(tmp_path: Path) -> None:
    """Python looks for the directory of a user's packages when it starts; here there is none yet."""
    code = (
        "import subprocess, sys, site\n"
        f"exec({LANGUAGES['python'].prepare!r})\n"
        "place = site.getusersitepackages()\n"
        "open(place + '/just_installed.py', 'w').write('x = 1')\n"
        "import just_installed\n"
        "print(just_installed.x, sorted(set(globals()) - set(dir(__builtins__))))\n"
    )
    base = Path(sys.base_prefix) / "bin/python3"
    run = [str(base), "-c", code]
    done = subprocess.run(run, env={"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("1 ["), done.stderr
    assert "'path'" not in done.stdout, "no names are left behind"
    assert list(tmp_path.rglob("just_installed.py"))
