"""shellcheck over every shell script: those of the tree, and those that templates become on a host."""

from __future__ import annotations

import re

import pytest

from sandboxd.cli.completion import bash
from sandboxd.cli.completion.model import of_all_verbs
from tests.plan.process import placed, rendered
from tests.static.tree import check, files, first_line, tool

SHEBANG = re.compile(r"#!\s*(?:/usr)?/bin/(?:env )?(sh|bash|dash)\b")
SCRIPTS = [path for path in files() if SHEBANG.match(first_line(path)) and not path.endswith(".j2")]
SOURCED = [path for path in files() if path.endswith(".sh") and path not in SCRIPTS]
RENDERED = [path for path in files() if SHEBANG.match(first_line(path)) and path.endswith(".j2")]


@pytest.mark.parametrize("path", SCRIPTS)
def test_script(path: str) -> None:
    check([tool("shellcheck"), path])


@pytest.mark.parametrize("path", SOURCED)
def test_sourced_script(path: str) -> None:
    check([tool("shellcheck"), "--shell", "sh", path])


@pytest.mark.xdist_group("plan")
@pytest.mark.parametrize("case", ["minimal", "default", "maximal", "fleet-manager", "fleet-shared"])
@pytest.mark.parametrize("path", RENDERED)
def test_rendered_script(path: str, case: str) -> None:
    """What the template becomes, where the case's deploy places it."""
    text = rendered(path.removeprefix("templates/").removesuffix(".j2"), case)
    if text is not None:
        # SC1091: /etc/os-release is the host's, and not here on every workstation.
        check([tool("shellcheck"), "--exclude", "SC1091", "-"], stdin=text)
        check(["bash", "-n"], stdin=text)


def test_completion_script() -> None:
    check([tool("shellcheck"), "--shell", "bash", "-"], stdin=bash.script(of_all_verbs(["base"])))


@pytest.mark.xdist_group("plan")
def test_no_other_template_becomes_a_script() -> None:
    names = {path.rpartition("/")[2].removesuffix(".j2") for path in RENDERED}
    files = {**placed("default"), **placed("fleet-manager"), **placed("fleet-shared")}
    names.add("lease-image")  # a file as it is here
    assert names == {path.rpartition("/")[2] for path, text in files.items() if SHEBANG.match(text)}
