"""What new sandboxes are bound to."""

from fleet.wishes import bindings


def test_bindings() -> None:
    assert bindings([("", "x"), ("a", "y"), ("a", "z")]) == {"a": "y and z"}
    assert bindings([("a", "y"), ("b", "z")]) == {"a": "y", "b": "z"}
