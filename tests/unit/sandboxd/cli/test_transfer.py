"""`upload` and `download`: like `cp -r`, streamed, and never half a file under the right name."""

import os
from pathlib import Path

import pytest

from tests.unit.sandboxd.cli.conftest import ID, Cli


@pytest.fixture
def remote(used: Cli) -> Path:
    """A directory in the sandbox of its own for each test."""
    path = Path(used.out("exec", ID, "mktemp -d -p .").strip())
    return used.work / path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    made = tmp_path / "site"
    (made / "deep" / "empty").mkdir(parents=True)
    (made / "a b\n'c").write_text("odd name")
    os.write(os.open(os.fsencode(made) + b"/\xff", os.O_CREAT | os.O_WRONLY), b"no utf-8")
    (made / "deep" / "run").write_text("#!/bin/sh\n")
    (made / "deep" / "run").chmod(0o755)
    (made / "link").symlink_to("deep/run")
    (made / "broken").symlink_to("nowhere")
    return made


def tree(path: Path) -> dict[bytes, tuple[str, bytes, int]]:
    """Everything below a directory: kind, content or target, mode."""
    found = {}
    for directory, folders, files in os.walk(os.fsencode(path)):
        for name in folders + files:
            full = os.path.join(directory, name)
            relative = os.path.relpath(full, os.fsencode(path))
            if os.path.islink(full):
                found[relative] = ("link", os.readlink(full), 0)
            elif os.path.isdir(full):
                found[relative] = ("directory", b"", os.stat(full).st_mode & 0o777)
            else:
                with open(full, "rb") as file:
                    found[relative] = ("file", file.read(), os.stat(full).st_mode & 0o777)
    return found


def test_a_directory_there_and_back(used: Cli, site: Path, remote: Path, tmp_path: Path) -> None:
    used.out("upload", ID, str(site), str(remote / "new"))
    assert tree(remote / "new") == tree(site)
    used.out("download", ID, str(remote / "new"), str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(site)


def test_into_a_directory_it_goes_under_its_own_name(used: Cli, site: Path, remote: Path, tmp_path: Path) -> None:
    used.out("upload", ID, str(site), str(remote))
    assert tree(remote / "site") == tree(site)
    used.out("upload", ID, f"{site}/.", str(remote / "flat"))
    assert tree(remote / "flat") == tree(site)
    target = tmp_path / "target"
    target.mkdir()
    used.out("download", ID, str(remote / "site"), str(target))
    assert tree(target / "site") == tree(site)


def test_one_file_and_pipes(used: Cli, remote: Path, tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    (tmp_path / "data").write_bytes(data)
    used.out("upload", ID, str(tmp_path / "data"), str(remote / "made/up/data"))
    assert (remote / "made/up/data").read_bytes() == data
    assert used.run("download", ID, str(remote / "made/up/data"), "-").stdout == data
    used.out("upload", ID, "-", str(remote / "piped"), stdin=data)
    assert (remote / "piped").read_bytes() == data
    used.out("download", ID, str(remote / "piped"), str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("upload", ID, "/does/not/exist", "/tmp/x"), "/does/not/exist"),
        (("download", ID, "/does/not/exist", "/tmp/sandbox-test-x"), "/does/not/exist"),
        (("download", ID, "/etc", "-"), "directory"),
    ],
)
def test_what_is_not_there_is_named(used: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = used.run(*arguments)
    assert done.returncode == 1 and words in done.stderr.decode() and done.stdout == b""


def test_a_download_that_fails_leaves_the_old_file(used: Cli, remote: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept"
    target.write_text("old")
    done = used.run("download", ID, str(remote / "none"), str(target))
    assert done.returncode == 1 and target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
