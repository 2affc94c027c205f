"""How much is under way at a time."""

from contextlib import ExitStack

import pytest

from console.places import Places


def test_one_key_does_not_take_all(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(most=3, most_of_a_key=2)
    with ExitStack() as all_of_them:
        with places.taken("ada"):
            all_of_them.enter_context(places.taken("ada"))
            assert not places.free("ada") and places.free("bob")
            all_of_them.enter_context(places.taken("bob"))
            assert not places.free("bob")
        assert places.free("ada") and places.free("bob")
    assert all(places.free(key) for key in ("ada", "bob", "eve"))


def test_what_fails_gives_its_place_back() -> None:
    places = Places(1, 1)
    with pytest.raises(ValueError, match="x"), places.taken("ada"):
        raise ValueError("x")
    assert places.free("ada")
