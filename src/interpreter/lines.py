"""What a client reads: the lines of an execution, made from the messages of a kernel. Touches nothing.

Messages: https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

import json
import time
from collections.abc import Mapping
from typing import Any

Line = dict[str, Any]
Message = Mapping[str, Any]

KEEPALIVE: Line = {"type": "keepalive"}
END: Line = {"type": "end_of_execution"}
FORMS = {  # MIME type -> field of a result
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
}
BASE64 = ("image/png", "image/jpeg", "application/pdf")  # kernels put line ends into them


def encode(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


def from_message(message: Message) -> Line | None:
    """The line for a message, None when a client need not know of it."""
    content = message["content"]
    match message["msg_type"]:
        case "stream":
            return output(content["name"], content["text"])
        case "execute_result":
            return result(content["data"], is_main_result=True)
        case "display_data":
            return result(content["data"], is_main_result=False)
        case "error":
            return error(content["ename"], content["evalue"], content["traceback"])
        case "execute_input":
            return {"type": "number_of_executions", "execution_count": content["execution_count"]}
    return None


def output(stream: str, text: str) -> Line:
    """A piece of `stdout` or `stderr`, with the time in nanoseconds since 1970."""
    return {"type": stream, "text": text, "timestamp": time.time_ns()}


def error(name: str, value: str, traceback: list[str]) -> Line:
    return {"type": "error", "name": name, "value": value, "traceback": "\n".join(traceback)}


def result(data: Mapping[str, Any], *, is_main_result: bool) -> Line:
    """All forms of a value; those of types that have no field of their own are in `extra`, by their type."""
    line: Line = {"type": "result", "is_main_result": is_main_result}
    extra = {}
    for mime, value in data.items():
        if mime in BASE64 and isinstance(value, str):
            value = value.replace("\n", "")
        if (name := FORMS.get(mime)) is None:
            extra[mime] = value
        else:
            line[name] = value
    # As E2B's interpreter does it: the text of a string is the string.
    text = line.get("text")
    if isinstance(text, str) and len(text) >= 2 and text[0] == text[-1] == "'":
        line["text"] = text[1:-1]
    return {**line, "extra": extra} if extra else line
