"""What counts as grown."""

from typing import Any

from tools.soak.verdict import rows, table


def found(**changed: int) -> dict[str, Any]:
    """Figures of one part and one kind; `changed` are those at the end that differ."""
    before = {"KB": 100_000, "files": 20, "threads": 10}
    after = {key: changed.get(key, value) for key, value in before.items()}
    left, ends = {"mounts": 4}, {"mounts": 3}
    return {
        "held": [{"sandboxd": before}, {"sandboxd": after}],
        "left": [left, {"mounts": changed.get("left", 4)}],
        "ends": [ends, {"mounts": changed.get("ends", 3)}],
    }


def grown(**changed: int) -> list[str]:
    return [row.what for row in rows(found(**changed)) if row.grew]


def test_what_stays_or_grows_a_little_is_no_leak() -> None:
    assert grown() == grown(KB=125_000, files=28, threads=14) == grown(KB=1, files=1, threads=1) == []


def test_what_grows_is_named() -> None:
    assert grown(KB=130_000) == ["sandboxd: KB"]
    assert grown(files=29, threads=15) == ["sandboxd: files", "sandboxd: threads"]


def test_one_object_too_many_or_too_few_is_wrong() -> None:
    assert grown(left=5) == ["mounts, under load"] and grown(ends=4) == ["mounts, at the ends"] == grown(ends=2)


def test_the_table_says_what_grew() -> None:
    lines = table(rows(found(files=99))).splitlines()
    assert [line.split() for line in lines if "files" in line] == [["sandboxd:", "files", "20", "99", "GREW"]]
    assert sum("GREW" in line for line in lines) == 1
