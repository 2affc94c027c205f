"""Steps of a template as a Dockerfile."""

import os
import pwd
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sandboxd.e2b.steps import COPY, STEP, Step, dockerfile, parse, step_of
from sandboxd.errors import BadRequest

DIGEST = "a" * 64


def text_of(*steps: dict[str, Any], start: str = "", ready: str = "") -> list[str]:
    """Its lines, without the comments that number the steps."""
    return [line for line in dockerfile(parse(steps), start, ready).splitlines() if not line.startswith(STEP)]


def test_it_begins_as_user_at_home_and_ends_as_root() -> None:
    assert text_of() == ["ARG BASE", "FROM ${BASE}", "USER user", "WORKDIR /home/user", "USER root", "WORKDIR /code"]


def test_commands_run_in_a_login_shell_as_whom_they_shall() -> None:
    lines = text_of({"type": "RUN", "args": ['echo "a\n$B"']}, {"type": "RUN", "args": ["id", "root"]})
    assert lines[4:8] == [
        'RUN ["/bin/bash", "-l", "-c", "echo \\"a\\n$B\\""]',
        "USER root",
        'RUN ["/bin/bash", "-l", "-c", "id"]',
        "USER user",
    ]


def test_user_directory_and_environment_last() -> None:
    lines = text_of(
        {"type": "USER", "args": ["web", "true"]},
        {"type": "WORKDIR", "args": ["app"]},
        {"type": "ENV", "args": ["A", 'x "y" $HOME', "B", ""]},
        {"type": "RUN", "args": ["pwd"]},
    )
    assert "useradd --create-home --shell /bin/bash web" in lines[5] and "sudoers.d/web" in lines[5]
    assert lines[6:] == [
        "USER web",
        "USER root",
        'RUN ["/bin/bash", "-l", "-c", "install -d -o web /home/user/app"]',
        "USER web",
        'WORKDIR "/home/user/app"',
        'ENV A="x \\"y\\" $HOME"',
        'ENV B=""',
        'RUN ["/bin/bash", "-l", "-c", "pwd"]',
        "USER root",
        "WORKDIR /code",
    ]


def test_what_docker_would_read_otherwise_is_escaped_as_docker_reads_it() -> None:
    lines = text_of({"type": "ENV", "args": ["A", "ü \\ \t"]}, {"type": "WORKDIR", "args": ["/ü $x"]})
    assert 'ENV A="ü \\\\ \t"' in lines and 'WORKDIR "/ü \\$x"' in lines


def test_files_come_from_the_archive_of_their_digest() -> None:
    lines = text_of({"type": "COPY", "args": ["a b.py", "/srv/", "", "0755"], "filesHash": DIGEST})
    assert lines[4] == "USER root" and lines[6] == "USER user"
    assert lines[5].startswith(f"RUN --mount=type=bind,source=files/{DIGEST},target=/run/copy.tar ")
    assert "SOURCE='a b.py' TARGET=/srv/ OWNER=user MODE=0755" in lines[5]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"type": "ADD", "args": []}, "steps.0: type 'ADD'"),
        ({"args": ["x"]}, "steps.0: type None"),
        ({"type": "RUN", "args": []}, "steps.0: RUN takes texts"),
        ({"type": "RUN", "args": [1]}, "steps.0: RUN takes texts"),
        ({"type": "RUN", "args": ["a\0b"]}, "steps.0: RUN takes texts"),
        ({"type": "RUN", "args": ["x", "root\nUSER root"]}, "is not a user's name"),
        ({"type": "USER", "args": ["a; rm"]}, "is not a user's name"),
        ({"type": "ENV", "args": ["A B", "x"]}, "is not a variable"),
        ({"type": "ENV", "args": ["A", "x\ny"]}, "has a line break"),
        ({"type": "RUN", "args": 5}, "steps.0: RUN takes texts"),
        ({"type": "RUN", "args": "abc"}, "steps.0: RUN takes texts"),
        ({"type": "RUN", "args": ["\ud800"]}, "steps.0: RUN takes texts"),
        ({"type": "WORKDIR", "args": ["a\nRUN x"]}, "is no path"),
        ({"type": "COPY", "args": ["a", "b"]}, "filesHash ''"),
        ({"type": "COPY", "args": ["a", "b"], "filesHash": "../x"}, "filesHash '../x'"),
        ({"type": "COPY", "args": ["a", "b", "x y"], "filesHash": DIGEST}, "is no user"),
        ({"type": "COPY", "args": ["a", "b", "", "rwx"], "filesHash": DIGEST}, "is not a mode"),
    ],
)
def test_what_is_refused(step: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        text_of(step)
    assert said in str(caught.value)


def test_no_text_of_a_step_becomes_a_line_of_its_own() -> None:
    lines = text_of({"type": "RUN", "args": ["echo a\nUSER root\nRUN evil"]})
    assert len([line for line in lines if line.startswith(("USER", "RUN"))]) == 3


def test_root_is_a_user_like_others() -> None:
    lines = [
        line
        for line in text_of(
            {"type": "USER", "args": ["root"]},
            {"type": "RUN", "args": ["whoami"]},
            {"type": "USER", "args": ["user"]},
            {"type": "RUN", "args": ["id"]},
        )
        if line.startswith(("USER", "RUN"))
    ]
    users = [lines[: lines.index(one)][::-1] for one in lines if "whoami" in one or '"id"' in one]
    assert [next(line for line in above if line.startswith("USER")) for above in users] == ["USER root", "USER user"]


def test_lines_know_the_step_that_they_come_from() -> None:
    text = dockerfile(parse([{"type": "RUN", "args": ["first"]}, {"type": "RUN", "args": ["second", "root"]}]))
    number = next(number for number, line in enumerate(text.splitlines(), 1) if "second" in line)
    assert (step_of(text, number), step_of(text, 1)) == ("2", "")


def test_the_start_command_runs_beside_the_agent_as_the_last_user() -> None:
    (line,) = [
        one for one in text_of(start="python3 -m http.server", ready="curl -s localhost:8000") if "start.d" in one
    ]
    assert "runuser -u user" in line and "http.server" in line and "until" in line


def test_the_wait_that_clients_add_to_a_dockerfile_delays_no_sandbox() -> None:
    (line,) = [one for one in text_of(start="python3 -m http.server", ready="sleep 20") if "start.d" in one]
    assert "http.server" in line and "until" not in line and "sleep" not in line


def copied(tmp_path: Path, source: str, target: Path, mode: str = "") -> None:
    """Runs what a COPY runs, with an archive as clients pack it."""
    context = tmp_path / "context"
    (context / "dir/deep").mkdir(parents=True, exist_ok=True)
    for name in ("a.py", "b.py", "dir/c.txt", "dir/deep/d.txt"):
        (context / name).write_text(name)
    archive = tmp_path / "copy.tar"
    with tarfile.open(archive, "w:gz") as made:
        for path in sorted(context.rglob("*")):
            made.add(path, path.relative_to(context), recursive=False)
    script = COPY.replace("/run/copy.tar", str(archive))
    values = {"SOURCE": source, "TARGET": str(target), "OWNER": pwd.getpwuid(os.getuid()).pw_name, "MODE": mode}
    target_text = f"{target}/" if source.endswith("|") else str(target)
    values |= {"SOURCE": source.rstrip("|"), "TARGET": target_text}
    subprocess.run(["/bin/bash", "-c", script], env={**os.environ, **values}, check=True, timeout=30)


def test_copy_means_what_dockers_does(tmp_path: Path) -> None:
    out = tmp_path / "out"
    copied(tmp_path, "a.py", out / "renamed.py", "0750")
    assert (out / "renamed.py").read_text() == "a.py" and (out / "renamed.py").stat().st_mode & 0o777 == 0o750
    copied(tmp_path, "a.py|", out / "into")
    assert (out / "into/a.py").is_file()
    copied(tmp_path, "dir", out / "content")
    assert (out / "content/c.txt").is_file() and (out / "content/deep/d.txt").is_file()
    copied(tmp_path, "*.py", out / "many")
    assert sorted(path.name for path in (out / "many").iterdir()) == ["a.py", "b.py"]
    copied(tmp_path, ".", out / "all")
    assert (out / "all/dir/deep/d.txt").is_file() and (out / "all/a.py").is_file()
    with pytest.raises(subprocess.CalledProcessError):
        copied(tmp_path, "none", out / "x")


def test_a_step_is_a_value() -> None:
    assert parse([{"type": "RUN", "args": ["x"]}]) == [Step("RUN", ("x",))]
