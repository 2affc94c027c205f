"""What is told of a tree, without an agent around it. The kernel tells of each call before it returns."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envd import trees
from envd.errors import EnvdError
from envd.inotify import READ_BYTES, Inotify
from envd.trees import Event, Tree

Watched = Callable[..., Tree]


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Makes trees that are open, and closes them."""
    made: list[Tree] = []

    def make(path: Path, recursive: bool = True, room: int = 1000) -> Tree:
        tree = Tree(str(path), recursive, lambda: room - tree.size)
        made.append(tree)
        tree.open()
        return tree

    yield make
    for tree in made:
        tree.close()


def told(tree: Tree) -> list[tuple[str, str]]:
    """All that has happened: name, and type in short."""
    assert tree.pipe is not None
    events: list[Event] = []
    while True:
        try:
            data = os.read(tree.pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return [(name, kind.removeprefix("EVENT_TYPE_").lower()) for name, kind in events]
        events += tree.translate(data)


def test_what_happens_to_a_file(watched: Watched, tmp_path: Path) -> None:
    tree = watched(tmp_path, recursive=False)
    file = tmp_path / "a"
    file.write_text("1")
    file.chmod(0o600)
    file.rename(tmp_path / "b")
    (tmp_path / "b").unlink()
    assert told(tree) == [
        ("a", "create"),
        ("a", "write"),
        ("a", "chmod"),
        ("a", "rename"),
        ("b", "create"),
        ("b", "remove"),
    ]


def test_without_recursion_only_the_directory_itself(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    tree = watched(tmp_path, recursive=False)
    (tmp_path / "new").mkdir()
    for name in ("old", "new"):
        (tmp_path / name / "file").touch()
    assert told(tree) == [("new", "create")]


def test_with_recursion_all_below_but_not_behind_links(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "tree/old/deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tree/link").symlink_to("../elsewhere")
    tree = watched(tmp_path / "tree")
    assert tree.size == 3
    (tmp_path / "elsewhere/file").touch()
    (tmp_path / "tree/old/deep/file").touch()
    (tmp_path / "tree/new").symlink_to("../elsewhere")
    (tmp_path / "elsewhere/file").unlink()
    assert told(tree) == [("old/deep/file", "create"), ("new", "create")]


def test_what_was_in_a_new_directory_before_it_was_watched(watched: Watched, tmp_path: Path) -> None:
    tree = watched(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/1").touch()
    (tmp_path / "a/b/2").touch()
    assert told(tree) == [("a", "create"), ("a/1", "create"), ("a/b", "create"), ("a/b/2", "create")]
    (tmp_path / "a/b/2").unlink()
    (tmp_path / "a/b/2").touch()
    assert told(tree) == [("a/b/2", "remove"), ("a/b/2", "create")]


def test_what_is_found_and_told_by_the_kernel_too_is_told_once(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the beginning of a watch and the look into the directory there is time for others."""
    tree = watched(tmp_path)
    inner = tree._content

    def slow(directory: str) -> list[tuple[str, bool]]:
        if directory == "a":
            (tmp_path / "a/b").mkdir()
            (tmp_path / "a/b/file").touch()
        return inner(directory)

    monkeypatch.setattr(tree, "_content", slow)
    (tmp_path / "a").mkdir()
    assert told(tree) == [("a", "create"), ("a/b", "create"), ("a/b/file", "create")]
    (tmp_path / "a/b/other").touch()
    assert told(tree) == [("a/b/other", "create")]


def test_a_directory_that_is_renamed_is_followed(watched: Watched, tmp_path: Path) -> None:
    for path in ("a/sub", "ab", "to"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "a/file").touch()
    tree = watched(tmp_path)
    (tmp_path / "a").rename(tmp_path / "to/b")
    (tmp_path / "to/b/sub/1").touch()
    (tmp_path / "ab/2").touch()
    assert told(tree) == [
        ("a", "rename"),
        ("to/b", "create"),
        ("to/b/sub/1", "create"),
        ("ab/2", "create"),
    ]
    assert tree.size == 5


def test_a_directory_that_leaves_is_not_watched_any_more(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "tree/a/sub").mkdir(parents=True)
    tree = watched(tmp_path / "tree")
    (tmp_path / "tree/a").rename(tmp_path / "gone")
    assert told(tree) == [("a", "rename")]
    assert tree.size == 1
    (tmp_path / "gone/sub/file").touch()
    assert told(tree) == []
    (tmp_path / "gone").rename(tmp_path / "tree/back")
    assert told(tree) == [("back", "create"), ("back/sub", "create"), ("back/sub/file", "create")]
    (tmp_path / "tree/back").rename(tmp_path / "gone")
    (tmp_path / "gone").rename(tmp_path / "tree/a")
    assert told(tree) == [("back", "rename"), ("a", "create"), ("a/sub", "create"), ("a/sub/file", "create")]
    (tmp_path / "tree/a/sub/file").unlink()
    assert told(tree) == [("a/sub/file", "remove")]


def test_renames_that_are_faster_than_the_reading(watched: Watched, tmp_path: Path) -> None:
    """When their events are read, the paths in them lead nowhere, or to other directories."""
    tree = watched(tmp_path)
    (tmp_path / "a/x").mkdir(parents=True)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a/y").mkdir(parents=True)
    (tmp_path / "b").rename(tmp_path / "c")
    (tmp_path / "a").rename(tmp_path / "b")
    assert {("c", "create"), ("c/x", "create"), ("b/y", "create")} <= set(told(tree))
    assert tree.size == 5
    (tmp_path / "c/x/1").touch()
    (tmp_path / "b/y/2").touch()
    assert told(tree) == [("c/x/1", "create"), ("b/y/2", "create")]


def test_a_removed_subtree_is_told_once_and_costs_nothing(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    tree = watched(tmp_path)
    shutil.rmtree(tmp_path / "a")
    assert told(tree) == [("a/b/file", "remove"), ("a/b", "remove"), ("a", "remove")]
    assert tree.size == 1


def test_the_directory_itself(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    tree = watched(tmp_path / "tree")
    (tmp_path / "tree").chmod(0o700)
    (tmp_path / "tree/sub").chmod(0o700)
    (tmp_path / "tree").rename(tmp_path / "moved")
    (tmp_path / "moved/file").touch()
    assert told(tree) == [(".", "chmod"), ("sub", "chmod"), (".", "rename")]
    assert tree.size == 0
    tree = watched(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved")
    assert told(tree) == [("file", "remove"), ("sub", "remove"), (".", "remove")]
    (tmp_path / "moved").mkdir()
    assert (told(tree), tree.size) == ([], 0)


def test_the_same_twice_in_a_row_is_once(watched: Watched, tmp_path: Path) -> None:
    tree = watched(tmp_path)
    with (tmp_path / "a").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x")
    assert told(tree) == [("a", "create"), ("a", "write")]


def test_too_many_directories(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    with pytest.raises(EnvdError, match="as many directories as it may") as raised:
        watched(tmp_path, room=2)
    assert raised.value.code == "resource_exhausted"
    tree = watched(tmp_path, room=3)
    (tmp_path / "a/b/c").mkdir()
    assert told(tree) == [("a/b/c", "create")]  # what was seen comes before the reason for the end
    assert tree.failure is not None and tree.failure.code == "resource_exhausted"


@pytest.mark.parametrize("code", list(trees._LIMITS))
def test_the_limits_of_the_kernel(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Inotify, "add", refuse)
    with pytest.raises(EnvdError, match=f"cannot watch {tmp_path}: ") as raised:
        watched(tmp_path)
    assert raised.value.code == "resource_exhausted"


def test_a_system_call_that_fails_otherwise(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/a")

    tree = watched(tmp_path)
    monkeypatch.setattr(Inotify, "add", fail)
    (tmp_path / "a").mkdir()
    assert told(tree) == [("a", "create")]
    assert tree.failure is not None and tree.failure.code == "internal"


def test_a_full_queue_of_the_kernel_is_a_failure(watched: Watched, tmp_path: Path) -> None:
    tree = watched(tmp_path)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    for _ in range(limit // 2 + 10):
        os.utime(tmp_path / "a")
        os.utime(tmp_path / "b")  # equal neighbours would be one
    seen = told(tree)
    assert seen[:2] == [("a", "create"), ("b", "create")]
    assert tree.failure is not None and tree.failure.code == "internal"
    assert "some of it is lost" in tree.failure.message


def test_a_tree_that_moves_in_and_is_too_large_is_a_failure_too(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_BATCH_EVENTS", 10)
    (tmp_path / "tree").mkdir()
    (tmp_path / "large").mkdir()
    for number in range(20):
        (tmp_path / "large" / str(number)).touch()
    tree = watched(tmp_path / "tree")
    (tmp_path / "large").rename(tmp_path / "tree/large")
    assert len(told(tree)) == 10 and tree.failure is not None


def test_what_is_closed_to_the_user_is_left_out(watched: Watched, tmp_path: Path) -> None:
    """Root may read everything, so that nothing is closed to him."""
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "open").mkdir()
    try:
        assert watched(tmp_path).size == (3 if os.geteuid() == 0 else 2)
    finally:
        (tmp_path / "closed").chmod(0o700)
