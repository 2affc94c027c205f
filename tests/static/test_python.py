"""mypy and ruff over all Python. mypy comes first, since it takes longest."""

from tests.static.tree import check, tool


def test_mypy() -> None:
    """Strict, as pyproject.toml says; its cache makes the second run short."""
    check([tool("mypy"), "--no-error-summary"])


def test_ruff() -> None:
    check([tool("ruff"), "check", "--quiet", "--output-format", "concise"])


def test_format() -> None:
    check([tool("ruff"), "format", "--diff", "--quiet"])
