"""Lines from messages."""

import json
from typing import Any

import pytest

from interpreter.lines import END, encode, from_message, result


def message(kind: str, **content: Any) -> dict[str, Any]:
    return {"msg_type": kind, "content": content}


def test_what_a_client_need_not_know_is_no_line() -> None:
    for kind in ("status", "clear_output", "comm_open", "iopub_welcome"):
        assert from_message(message(kind)) is None


def test_a_traceback_is_one_text() -> None:
    line = from_message(message("error", ename="E", evalue="v", traceback=["a", "b"]))
    assert line == {"type": "error", "name": "E", "value": "v", "traceback": "a\nb"}


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "application/pdf"])
def test_base64_has_no_line_ends(mime: str) -> None:
    line = result({mime: "YWJj\nZGVm\n"}, is_main_result=True)
    assert line[mime.rpartition("/")[2]] == "YWJjZGVm"


@pytest.mark.parametrize(("text", "shown"), [("'a'", "a"), ("''", ""), ("'", "'"), ("['a']", "['a']")])
def test_the_text_of_a_string(text: str, shown: str) -> None:
    assert result({"text/plain": text}, is_main_result=True)["text"] == shown


def test_a_line_has_one_end_whatever_is_in_it() -> None:
    data = encode({"type": "stdout", "text": "a\nb\u2028"})
    assert data.count(b"\n") == 1 and json.loads(data)["text"] == "a\nb\u2028"
    assert json.loads(encode(END)) == {"type": "end_of_execution"}
