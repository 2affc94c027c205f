"""What the console's pages use of others is what the list says."""

from pathlib import Path

from tools.vendor import FILES, LIST, differing, packages, renewed

TEXT = '[[package]]\nname = "a"\nversion = "1"\nfiles = [\n    { from = "x", to = "a.js", sha256 = "00" },\n]\n'


def test_the_files_are_those_of_the_list() -> None:
    assert differing(LIST.read_text(), FILES) == [], "run `make vendor`"


def test_every_package_brings_its_licence() -> None:
    for package in packages(LIST.read_text()):
        assert any(file["to"].endswith(".LICENSE") for file in package["files"]) and package["licence"]


def test_what_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_bytes(b"1")
    (tmp_path / "more.js").write_bytes(b"1")
    assert differing(TEXT, tmp_path) == ["a.js", "more.js"]
    (tmp_path / "a.js").unlink()
    assert differing(TEXT, tmp_path) == ["a.js", "more.js"]


def test_digests_are_renewed_in_place() -> None:
    assert renewed(TEXT, {"a.js": "ff"}) == TEXT.replace('"00"', '"ff"')
