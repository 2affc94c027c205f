"""filesystem.Filesystem as a client meets it."""

import os
import stat
from pathlib import Path

from tests.unit.envd.client import MYSELF, TOKEN, Client, Json, Running
from tests.unit.envd.conftest import HOME

FS = "filesystem.Filesystem"


def names(answer: Json) -> list[str]:
    return [entry["path"] for entry in answer["entries"]]


def test_stat(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("hello")
    file.chmod(0o640)
    os.utime(file, ns=(0, 1_700_000_000_120_000_000))
    entry = client.ok(f"{FS}/Stat", {"path": str(file)})["entry"]
    assert entry == {
        "name": "a.txt",
        "type": "FILE_TYPE_FILE",
        "path": str(file),
        "size": "5",
        "mode": 0o640,
        "permissions": "-rw-r-----",
        "owner": file.owner(),
        "group": file.group(),
        "modifiedTime": "2023-11-14T22:13:20.12Z",
    }
    response = client.rpc(f"{FS}/Stat", {"path": "/no/such"})
    assert response.status_code == 404
    message = "file not found: lstat /no/such: no such file or directory"
    assert response.json() == {"code": "not_found", "message": message}


def test_relative_paths_begin_in_the_working_directory(client: Client, workdir: Path) -> None:
    (workdir / "rel").mkdir(exist_ok=True)
    assert client.ok(f"{FS}/Stat", {"path": "rel"})["entry"]["path"] == str(workdir / "rel")
    assert client.ok(f"{FS}/Stat", {"path": "~"})["entry"]["path"] == HOME


def test_list_is_a_walk_to_a_depth_that_follows_no_links(client: Client, tmp_path: Path) -> None:
    for path in ("b/c/d", "a"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a-file").touch()
    (tmp_path / "link").symlink_to("b")

    def listed(**depth: int) -> list[str]:
        return [path.removeprefix(f"{tmp_path}/") for path in names(client.ok(f"{FS}/ListDir", message(depth)))]

    def message(depth: dict[str, int]) -> Json:
        return {"path": str(tmp_path), **depth}

    assert listed() == listed(depth=0) == listed(depth=1) == ["a", "a-file", "b", "link"]
    assert listed(depth=2) == ["a", "a-file", "b", "b/c", "link"]
    assert listed(depth=9) == ["a", "a-file", "b", "b/c", "b/c/d", "link"]
    assert client.error(f"{FS}/ListDir", {"path": str(tmp_path / "a-file")}) == "invalid_argument"
    assert client.error(f"{FS}/ListDir", {"path": str(tmp_path / "none")}) == "not_found"
    assert client.ok(f"{FS}/ListDir", {"path": str(tmp_path / "a")}) == {"entries": []}


def test_a_tree_deeper_than_pythons_stack(client: Client, tmp_path: Path) -> None:
    deep = "/".join(["d"] * 1500)
    os.makedirs(tmp_path / "top")
    client.ok(f"{FS}/MakeDir", {"path": f"{tmp_path}/top/{deep}"})
    assert len(names(client.ok(f"{FS}/ListDir", {"path": str(tmp_path / "top"), "depth": 5000}))) == 1500
    client.run(f"rm -r {tmp_path}/top")


def test_make_dir(client: Client, tmp_path: Path) -> None:
    entry = client.ok(f"{FS}/MakeDir", {"path": f"{tmp_path}/x/y"})["entry"]
    assert (entry["type"], entry["permissions"]) == ("FILE_TYPE_DIRECTORY", "drwxr-xr-x")
    assert client.error(f"{FS}/MakeDir", {"path": f"{tmp_path}/x/y"}) == "already_exists"
    (tmp_path / "file").touch()
    assert client.error(f"{FS}/MakeDir", {"path": f"{tmp_path}/file"}) == "invalid_argument"
    assert client.error(f"{FS}/MakeDir", {"path": f"{tmp_path}/file/below"}) == "invalid_argument"


def test_move(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    message = {"source": f"{tmp_path}/a", "destination": f"{tmp_path}/new/dir/b"}
    assert client.ok(f"{FS}/Move", message)["entry"]["path"] == f"{tmp_path}/new/dir/b"
    assert (tmp_path / "new/dir/b").read_text() == "1" and not (tmp_path / "a").exists()
    assert client.error(f"{FS}/Move", message) == "not_found"


def test_move_across_file_systems(client: Client, tmp_path: Path) -> None:
    """/dev/shm is one of its own everywhere."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/a").write_text("1")
    (tmp_path / "dir/link").symlink_to("nowhere")
    other = Path(f"/dev/shm/envd-test-{os.getpid()}")
    assert other.parent.stat().st_dev != tmp_path.stat().st_dev
    client.ok(f"{FS}/Move", {"source": f"{tmp_path}/dir", "destination": str(other)})
    assert (other / "a").read_text() == "1" and os.readlink(other / "link") == "nowhere"
    assert not (tmp_path / "dir").exists()
    client.ok(f"{FS}/Remove", {"path": str(other)})
    assert not other.exists()


def test_remove_a_tree_that_is_deeper_than_pythons_stack(client: Client, tmp_path: Path) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    directory = os.open(top, os.O_RDONLY)
    for _ in range(1200):  # one step at a time: the whole path is longer than a path may be
        os.mkdir("a", dir_fd=directory)
        below = os.open("a", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    client.ok(f"{FS}/Remove", {"path": str(top)})
    assert not top.exists()


def test_remove(client: Client, tmp_path: Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    for name in ("dir", "link", "none"):
        assert client.ok(f"{FS}/Remove", {"path": f"{tmp_path}/{name}"}) == {}
    assert os.listdir(tmp_path) == ["kept"]


def test_what_another_user_may_not_do(client: Client, open_directory: Path) -> None:
    """Root acts as the other; an agent that is not root cannot, and refuses in the same words."""
    closed = open_directory / "closed"
    (closed / "sub").mkdir(parents=True)
    closed.chmod(0o700)
    for method, message in {
        "Stat": {"path": f"{closed}/sub"},
        "ListDir": {"path": str(closed)},
        "MakeDir": {"path": f"{closed}/new"},
        "Remove": {"path": str(closed)},
        "Move": {"source": f"{closed}/sub", "destination": f"{open_directory}/taken"},
    }.items():
        assert client.error(f"{FS}/{method}", message, user="nobody") == "permission_denied", method
    assert os.listdir(closed) == ["sub"]
    if os.geteuid() == 0:
        client.ok(f"{FS}/MakeDir", {"path": f"{open_directory}/a/b"}, user="nobody")
        made = (open_directory / "a/b").stat()
        assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (65534, 0o755)


def test_a_path_that_the_user_cannot_even_see_is_not_taken_for_removed(client: Client, open_directory: Path) -> None:
    closed = open_directory / "closed"
    (closed / "sub").mkdir(parents=True)
    closed.chmod(0o700)
    assert client.error(f"{FS}/Remove", {"path": f"{closed}/sub"}, user="nobody") == "permission_denied"
    assert client.error(f"{FS}/Remove", {"path": f"{closed}/none"}, user="nobody") == "permission_denied"


def test_the_first_thing_that_an_agent_does_may_be_a_removal_as_another_user(open_directory: Path) -> None:
    """Python's own files may be closed to that user: nothing may be imported in his name."""
    (open_directory / "closed").mkdir(mode=0o700)
    directory = open_directory / "agent"
    directory.mkdir(mode=0o700)
    running = Running(directory, accessToken=TOKEN, user=MYSELF, workdir="/")
    try:
        closed = {"path": f"{open_directory}/closed"}
        assert Client(running.port).error(f"{FS}/Remove", closed, user="nobody") == "permission_denied"
    finally:
        running.stop()


def test_a_null_byte_and_a_wrong_type(client: Client) -> None:
    assert client.error(f"{FS}/Stat", {"path": "a\0b"}) == "invalid_argument"
    assert client.error(f"{FS}/Stat", {"path": 7}) == "invalid_argument"
    assert client.error(f"{FS}/Stat", {"path": "/" + "x" * 5000}) == "invalid_argument"
