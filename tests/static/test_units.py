"""`systemd-analyze verify` over the units that a deploy writes, where it is installed; tests/host does it on the host.

Defined only there: a workstation without systemd has nothing to run, and a skipped test would look like a check.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.plan.process import placed
from tests.static.tree import check

if shutil.which("systemd-analyze"):

    @pytest.mark.parametrize("case", ["minimal", "default", "maximal"])
    def test_units(case: str, tmp_path: Path) -> None:
        """It must say nothing: of an unknown key it only warns. The programs are not here: `true` stands for them."""
        units = {path: text for path, text in placed(case).items() if path.startswith("/etc/systemd/system/")}
        assert len(units) >= 2
        for path, text in units.items():
            runnable = re.sub(r"^(Exec\w+=[-@:+!]*)\S+", r"\1/bin/true", text, flags=re.MULTILINE)
            (tmp_path / Path(path).name).write_text(runnable)
        check(["systemd-analyze", "verify", "--man=no", *(str(file) for file in tmp_path.iterdir())])
