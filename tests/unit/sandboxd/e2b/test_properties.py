"""What parses the words of E2B's clients: whatever comes, it is what was meant or a refusal, and never another line."""

import json
import re
import shlex
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from sandboxd.e2b.lists import parse_metadata, parse_states, parse_time, parse_token, position, token
from sandboxd.e2b.steps import COPY, START, dockerfile, parse
from sandboxd.e2b.tags import template_name
from sandboxd.errors import BadRequest
from tests.unit.properties import always_the_same, anything, json_values
from tests.unit.sandboxd.e2b.conftest import Public

INSTRUCTIONS = ("ARG", "FROM", "USER", "WORKDIR", "RUN", "ENV")
DIGEST = "a" * 64
mean = (
    st.sampled_from(
        [
            "a\nUSER root",
            "a\rUSER root",
            "cat <<EOF\nx\nEOF",
            "<<EOF",
            "# syntax=evil/frontend",
            "# escape=`",
            "x \\",
            "\\",
            '"',
            '", "b"]',
            "'; id; '",
            "$(id)",
            "${A:-b}",
            "--mount=type=secret",
        ]
    )
    | anything
)


def refusable(text: str) -> bool:
    """Whether it is nothing, has a line break, or is no text that a file can hold."""
    return not text or bool(set("\n\r\0") & set(text)) or text.encode(errors="ignore").decode() != text


def instructions(text: str) -> list[tuple[str, str]]:
    """As BuildKit cuts a Dockerfile: at line breaks, unless a line ends with a backslash."""
    lines = [line for line in text.removesuffix("\n").split("\n") if not re.fullmatch(r"# step \d+", line)]
    assert not [line for line in lines if line.rstrip().endswith("\\") or line.startswith("#") or "\r" in line]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def unquoted(word: str) -> str:
    """As BuildKit reads a word in double quotes: a backslash means something before three characters."""
    assert word[0] == word[-1] == '"'
    found, rest = "", word[1:-1]
    while rest:
        assert rest[0] != '"', word
        escaped = rest[0] == "\\" and rest[1:2] in ("\\", '"', "$")
        found, rest = (found + rest[1], rest[2:]) if escaped else (found + rest[0], rest[1:])
    return found


def command(run: str) -> str:
    """The text that a RUN gives to bash. A heredoc there is none: what begins like JSON, and is it, cannot have one."""
    words: list[str] = json.loads(run[run.index("[") :])
    assert words[0] == "/bin/bash" and words[-2] == "-c"
    return words[-1]


@always_the_same
@given(mean, mean, mean, mean)
def test_no_text_breaks_out_of_its_line(one: str, two: str, three: str, four: str) -> None:
    steps: list[dict[str, Any]] = [
        {"type": "RUN", "args": [one]},
        {"type": "ENV", "args": ["A", two]},
        {"type": "WORKDIR", "args": [three]},
        {"type": "COPY", "args": [four, one], "filesHash": DIGEST},
        {"type": "RUN", "args": [two, "root"]},
    ]
    kept: list[dict[str, Any]] = []
    for step in steps:  # each of them alone may be refused
        try:
            dockerfile(parse([step]))
            kept.append(step)
        except BadRequest:
            assert any(map(refusable, step["args"]))
    text = dockerfile(parse(kept))
    text.encode()
    found = instructions(text)
    assert {name for name, _ in found} <= set(INSTRUCTIONS)
    assert found[:2] == [("ARG", "BASE"), ("FROM", "${BASE}")]
    assert found[-2:] == [("USER", "root"), ("WORKDIR", "/code")]
    kinds = {step["type"] for step in kept}
    assert {rest for name, rest in found if name == "USER"} <= {"user", "root"}
    if "ENV" in kinds:
        (variable,) = [rest for name, rest in found if name == "ENV"]
        assert unquoted(variable.removeprefix("A=")) == two
    if "WORKDIR" in kinds:
        (directory,) = [rest for name, rest in found if name == "WORKDIR" and rest.startswith('"')]
        assert unquoted(directory) == (three if three.startswith("/") else f"/home/user/{three}")
        assert directory.replace("\\\\", "").replace("\\$", "").count("$") == 0
    commands = [command(rest) for name, rest in found if name == "RUN"]
    for step in kept:
        if step["type"] == "RUN":
            assert step["args"][0] in commands
    if "COPY" in kinds:
        (copied,) = [one for one in commands if one.endswith(COPY)]
        values = dict(word.split("=", 1) for word in shlex.split(copied.removesuffix(f"; {COPY}")))
        assert list(values) == ["SOURCE", "TARGET", "OWNER", "MODE"]
        assert (values["SOURCE"], values["OWNER"], values["MODE"]) == (four, "user", "")


@always_the_same
@given(mean.filter(bool), mean)
def test_a_start_command_stays_one_argument(start: str, ready: str) -> None:
    try:
        (line,) = [rest for name, rest in instructions(dockerfile([], start, ready)) if name == "RUN"]
    except BadRequest:
        assert refusable(start) or refusable(ready)
        return
    words = shlex.split(command(line))
    script = shlex.split(words[words.index("%s") + 1])
    assert words[words.index("%s") + 2] == f">{START};"
    inner = script[script.index("-c") + 1]
    assert shlex.split(inner)[-1] == start and shlex.split(inner)[:2] == ["cd", "/home/user"]
    assert not ready or ready in script


@always_the_same
@given(
    st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "args", "filesHash"), json_values)), max_size=3)
)
@example([{"type": "RUN", "args": 5}])
@example([{"type": "COPY", "args": ["a", "b"], "filesHash": ["a"]}])
def test_steps_are_steps_or_refused(steps: list[dict[str, Any]]) -> None:
    try:
        dockerfile(parse(steps)).encode()
    except BadRequest as error:
        assert str(error).startswith("steps.")


encodable = st.text(max_size=20)


@always_the_same
@given(st.dictionaries(encodable, encodable, max_size=3))
def test_a_filter_by_metadata_arrives_as_clients_send_it(wanted: dict[str, str]) -> None:
    """They quote keys and values, encode the pairs, and the HTTP client encodes the whole once more."""
    pairs = urlencode({quote(key): quote(value) for key, value in wanted.items()})
    (once,) = [value for _, value in parse_qsl(urlencode({"metadata": pairs}), keep_blank_values=True)]
    assert parse_metadata(once) == wanted


@always_the_same
@given(encodable | st.text("%&=;+Cf0", max_size=20))
def test_any_text_is_a_filter(text: str) -> None:
    assert all(isinstance(value, str) for pair in parse_metadata(text).items() for value in pair)


@always_the_same
@given(encodable | st.sampled_from(["bmFuIHg", "aW5mIHg", "=" * 5, "é"]))
def test_any_text_is_a_place_a_state_a_time_and_a_template_or_refused(text: str) -> None:
    for read in (parse_token, lambda one: parse_states([one]), parse_time):
        try:
            read(text)
        except BadRequest as error:
            assert repr(text) in str(error) or "state: " in str(error)
    name, _, tag = template_name(text).partition(":")
    assert "/" not in name + tag and tag not in ("default", "latest") and text.endswith(tag)


@always_the_same
@given(st.datetimes().map(str) | st.datetimes().map(lambda at: f"{at.isoformat()}-23:59"))
def test_any_time_is_read(text: str) -> None:
    assert isinstance(parse_time(text), float)


@always_the_same
@given(at=st.floats(0, 1e11))
def test_a_place_is_found_again(public: Public, at: float) -> None:
    if not (rows := public.world.ledger.rows("running")):
        public.create()
        rows = public.world.ledger.rows("running")
    row = replace(rows[0], claimed_at=at)
    assert parse_token(token(row)) == position(row)
