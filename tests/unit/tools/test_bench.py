"""The table of measurements."""

from tools.bench import table


def test_the_ratio_is_ours_to_the_peers() -> None:
    rows: list[dict[str, str | float]] = [
        {"what": "init", "unit": "ms", "ours": 20.0, "peer": 200.0, "peer_is": "docker run -d"},
    ]
    head, line = table(rows).splitlines()
    assert head.split() == ["what", "ours", "peer", "ratio", "peer", "is"]
    assert line.split() == ["init", "20.0", "ms", "200.0", "ms", "0.10", "docker", "run", "-d"]
