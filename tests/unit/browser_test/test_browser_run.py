"""What the program in the browser's sandbox does besides browsing: the way to the host, scripts, authorities."""

import json
import os
import subprocess
import sys
from pathlib import Path

import browser_run
import pytest

PROGRAM = Path(browser_run.__file__)
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t1000C80A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0
eth0\t00000000\t1100C80A\t0003\t0\t0\t0\t00000000\t0\t0\t0
"""


def test_the_host_is_the_default_gateway() -> None:
    assert browser_run.default_gateway(ROUTES) == "10.200.0.17"


def test_without_a_default_route_it_says_so() -> None:
    with pytest.raises(SystemExit) as ended:
        browser_run.default_gateway(ROUTES.replace("\t00000000\t1100C80A", "\t0000C80A\t1100C80A"))
    assert "no default route" in str(ended.value)


def test_a_script_has_a_check_and_may_expect_problems(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("EXPECTED = ['^request: 422 ']\ndef check(page):\n    page.append('seen')\n")
    check, expected = browser_run.load(file)
    page: list[str] = []
    check(page)
    assert page == ["seen"] and [pattern.pattern for pattern in expected] == ["^request: 422 "]
    file.write_text("def check(page): ...\n")
    assert browser_run.load(file)[1] == []


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("mine.py", "def test(page): ...", "mine.py has no function check(page)"),
        ("mine.py", "check = 5", "mine.py has no function check(page)"),
        ("mine.py", "async def check(page): ...", "check in mine.py is async"),
        ("mine.py", "EXPECTED = ['(']\ndef check(page): ...", "unterminated subpattern"),
        ("mine.py", "raise RuntimeError('early')", "early"),
        ("mine.txt", "def check(page): ...", "its name must end in .py"),
    ],
)
def test_a_script_that_cannot_be_used(tmp_path: Path, name: str, text: str, says: str) -> None:
    file = tmp_path / name
    file.write_text(text + "\n")
    with pytest.raises(Exception, match=says.replace("(", r"\(").replace(")", r"\)")):
        browser_run.load(file)


def test_it_trusts_through_the_store_of_the_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certutil = tmp_path / "bin/certutil"
    certutil.parent.mkdir()
    certutil.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ngrep -v -- ----- >>{tmp_path}/calls || true\n')
    certutil.chmod(0o755)
    monkeypatch.setenv("PATH", f"{certutil.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(browser_run, "NSS", tmp_path / "home/.pki/nssdb")
    block = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(block.format("b25l"))
    (tmp_path / "both.crt").write_text(f"# two\n{block.format('dHdv')}\n# more\n{block.format('dGhyZWU')}")
    (tmp_path / "README").write_text("nothing\n")
    browser_run.trust([tmp_path / name for name in ("ca.pem", "both.crt", "README")])
    database = f"-d sql:{tmp_path}/home/.pki/nssdb"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{database} -N --empty-password",
        f"{database} -A -a -n authority 0 -t C,,",
        "b25l",
        f"{database} -A -a -n authority 1 -t C,,",
        "dHdv",
        f"{database} -A -a -n authority 2 -t C,,",
        "dGhyZWU",
    ]
    assert (tmp_path / "home/.pki/nssdb").is_dir()


def test_a_script_that_cannot_be_used_is_reported_without_a_browser(tmp_path: Path) -> None:
    """The whole program, up to where the browser would start."""
    certutil = tmp_path / "certutil"
    certutil.write_text("#!/bin/sh\n")
    certutil.chmod(0o755)
    (tmp_path / "mine.py").write_text("def check(page)\n")
    words = [
        sys.executable,
        str(PROGRAM),
        "https://qa-1.example.com/",
        "mine.py",
        "out/result",
        "--domain",
        "example.com",
    ]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    result = tmp_path / "out/result"
    report = json.loads((result / "report.json").read_text())
    assert not report["passed"] and report["status"] is None
    assert report["problems"][0]["kind"] == "script" and "mine.py:1: SyntaxError" in report["problems"][0]["text"]
    assert report["files"] == ["report.json", "report.txt"] == sorted(os.listdir(result))
    assert "mine.py:1: SyntaxError" in (result / "report.txt").read_text()
