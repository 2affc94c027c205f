import pytest

from envd.codec import CODECS, JSON
from envd.errors import EnvdError


def test_json_is_compact_utf8_objects() -> None:
    assert CODECS["json"] is JSON
    assert JSON.encode("process.Process/List", {"a": [1, "ü"]}) == b'{"a":[1,"\\u00fc"]}'
    assert JSON.decode("process.Process/List", ' {"a": "ü"}'.encode()) == {"a": "ü"}


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\xff\xfe\xfd", b"[" * 200_000, b"1" * 5000, b'"x"'])
def test_anything_else_is_an_invalid_argument(payload: bytes) -> None:
    with pytest.raises(EnvdError, match="message is not") as error:
        JSON.decode("process.Process/List", payload)
    assert error.value.code == "invalid_argument"
