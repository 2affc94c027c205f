import pytest

from envd import fields
from envd.errors import EnvdError

MESSAGE = {"s": "x", "b": True, "n": {"k": "v"}, "i": 7, "d": "12", "l": ["a"], "data": "AP8="}


def test_fields_are_read_as_protobuf_writes_them() -> None:
    assert fields.text(MESSAGE, "s") == "x"
    assert fields.boolean(MESSAGE, "b") is True
    assert fields.nested(MESSAGE, "n") == fields.text_map(MESSAGE, "n") == {"k": "v"}
    assert (fields.integer(MESSAGE, "i"), fields.integer(MESSAGE, "d")) == (7, 12)
    assert fields.text_list(MESSAGE, "l") == ["a"]
    assert fields.data(MESSAGE, "data") == b"\0\xff"


def test_absent_and_null_are_the_default() -> None:
    for message in ({}, {"x": None}):
        assert fields.text(message, "x") == ""
        assert fields.boolean(message, "x", default=True) is True
        assert fields.integer(message, "x", 3) == 3
        assert fields.text_list(message, "x") == [] and fields.text_map(message, "x") == {}
        assert fields.data(message, "x") == b""


def test_original_names_are_taken_too() -> None:
    message = {"include_entry": True, "watcher_id": "w", "watcherId": None, "some_long_number": "7"}
    assert fields.boolean(message, "includeEntry") is True
    assert (fields.text(message, "watcherId"), fields.integer(message, "someLongNumber")) == ("w", 7)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (fields.text, 1),
        (fields.boolean, "true"),
        (fields.nested, []),
        (fields.integer, True),
        (fields.integer, "seven"),
        (fields.integer, 1.5),
        (fields.text_list, ["a", 1]),
        (fields.text_map, {"a": 1}),
        (fields.data, "???"),
        (fields.data, "AP8"),
    ],
)
def test_a_wrong_one_is_named_with_its_value(read: object, value: object) -> None:
    assert callable(read)
    with pytest.raises(EnvdError) as error:
        read({"x": value}, "x")
    assert error.value.message.startswith(f"field 'x': {value!r} is not ")


def test_a_huge_value_is_not_repeated() -> None:
    with pytest.raises(EnvdError) as error:
        fields.integer({"x": "y" * 100_000}, "x")
    assert len(error.value.message) < 200
