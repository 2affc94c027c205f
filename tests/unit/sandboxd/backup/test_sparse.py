"""Files with holes in an archive: small, and what others read."""

import os
import subprocess
import tarfile
from itertools import chain
from pathlib import Path

import pytest

from sandboxd.backup import sparse
from sandboxd.backup.writing import Pieces

MB = 1024 * 1024
SHAPES = {
    "nothing": ([], 0),
    "only a hole": ([], 8 * MB),
    "only data": ([(0, b"x" * 70_000)], 70_000),
    "a hole at the end": ([(0, b"x" * 4096)], 8 * MB),
    "a hole at the beginning": ([(4 * MB, b"y" * 5000)], 4 * MB + 5000),
    "many": ([(number * MB, bytes([number + 1]) * 4096) for number in range(0, 64, 2)], 64 * MB + 17),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_gnu_tar_and_python_make_the_same_file_of_it(directory: Path, shape: str) -> None:
    parts, size = SHAPES[shape]
    file = directory / "disk.img"
    with file.open("wb") as opened:
        for offset, data in parts:
            opened.seek(offset)
            opened.write(data)
        opened.truncate(size)
    archive = directory / "a.tar"
    with file.open("rb") as opened, tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        found = sparse.extents(opened.fileno(), size)
        assert found[-1] == (size, 0)
        pieces = chain([sparse.as_map(found)], sparse.data(opened, found))
        tar.addfile(sparse.member("volumes/disk.img", size, found), Pieces(pieces, lambda count: None))
    assert archive.stat().st_size < sum(len(data) for _, data in parts) + 512 * 1024
    for how in ("gnu", "python"):
        out = directory / how
        out.mkdir()
        if how == "gnu":
            subprocess.run(["tar", "-xf", archive, "-C", out], check=True)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(out, filter="data")
        assert (out / "volumes/disk.img").read_bytes() == file.read_bytes()


def test_a_file_that_becomes_shorter_is_no_whole_member(directory: Path) -> None:
    file = directory / "disk.img"
    file.write_bytes(b"x" * 10_000)
    with file.open("rb") as opened:
        found = sparse.extents(opened.fileno(), 10_000)
        os.truncate(file, 5000)
        with pytest.raises(EOFError, match="became shorter"):
            list(sparse.data(opened, found))
