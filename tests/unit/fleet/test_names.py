"""Names that outlive the service."""

from pathlib import Path

from fleet.names import Names


def test_they_are_there_again(tmp_path: Path) -> None:
    file = tmp_path / "names"
    first = Names(file, "abc")
    for name in "cab":
        first.add(name)
    first.discard("a")
    again = Names(file, "ab")
    assert [name in again for name in "abc"] == [False, True, False], "c is no host any more"
    assert [path.name for path in tmp_path.iterdir()] == ["names"]


def test_a_file_that_cannot_be_used_keeps_nobody_from_anything(tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.mkdir()
    names = Names(file, "ab")
    names.add("a")
    assert "a" in names and "a" not in Names(file, "ab")
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    assert "a" not in Names(tmp_path / "bytes", "ab")
