import stat
from pathlib import Path

import pytest

from envd.errors import EnvdError
from envd.users import User, expand_path, find_user, make_directories

SOMEBODY = User("somebody", 1000, 1000, (1000,), "/home/somebody")


def test_accounts() -> None:
    nobody = find_user("nobody")
    assert nobody.uid == 65534 and nobody.gid in nobody.groups
    for name in ("no-such-user", "", "a\0b"):
        with pytest.raises(EnvdError, match="invalid username") as error:
            find_user(name)
        assert error.value.status == 401


@pytest.mark.parametrize(
    ("path", "workdir", "expected"),
    [
        ("/a/../b//c/", "/code", "/b/c"),
        ("", "/code", "/home/somebody"),
        ("~", "/code", "/home/somebody"),
        ("~/x", "/code", "/home/somebody/x"),
        ("~x", "/code", "/code/~x"),
        ("x", "/code", "/code/x"),
        ("x", "", "/home/somebody/x"),
        ("../../../x", "/code", "/x"),
    ],
)
def test_paths(path: str, workdir: str, expected: str) -> None:
    assert expand_path(path, SOMEBODY, workdir) == expected


def test_a_null_byte_is_refused() -> None:
    with pytest.raises(EnvdError, match="null byte"):
        expand_path("a\0b", SOMEBODY, "")


def test_directories_are_made_with_their_parents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o700)
    make_directories(str(tmp_path / "a/b/c"))
    make_directories(str(tmp_path / "a/b/c"))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(EnvdError, match="is not a directory"):
        make_directories(str(tmp_path / "file/x"))
