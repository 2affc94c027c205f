"""The steps of an E2B template, as a Dockerfile for BuildKit. Values in, text out.

Each step acts as the user and in the directory that the steps before it have set; both begin as E2B's do, with `user`
at home. The agent must run as root, so the image ends as root, whoever the last step was.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandboxd.errors import BadRequest

HASH = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
MODE = re.compile(r"[0-7]{3,4}")
START = "/etc/sandbox/start.d/template"
READY_EVERY_S = 1
STEP = "# step "  # begins a comment above what a step became; clients count from 1, as 0 is the base
# What clients add by themselves when a Dockerfile has a CMD. It tells nothing of the server, and E2B waits for it once,
# when it builds; here each new sandbox would.
READY_OF_DOCKERFILES = "sleep 20"

# What COPY means: as Docker's own, with a pattern for the sources, in an archive that the client has packed.
COPY = """\
set -euo pipefail
work=$(mktemp -d); tar -xf /run/copy.tar -C "$work"; cd "$work"
chown -R "$OWNER" .; [ -z "$MODE" ] || chmod -R "$MODE" .
mapfile -t found < <(compgen -G "$SOURCE" || true)
[ ${#found[@]} -gt 0 ] || { echo "COPY $SOURCE: nothing of that name was uploaded" >&2; exit 1; }
into() { [ -d "$1" ] || install -d -o "${OWNER%%:*}" "$1"; }
for one in "${found[@]}"; do
    if [ -d "$one" ]; then into "$TARGET"; cp -a "$one/." "$TARGET"
    elif [ ${#found[@]} -gt 1 ] || [ "${TARGET%/}" != "$TARGET" ] || [ -d "$TARGET" ]; then
        into "$TARGET"; cp -a "$one" "$TARGET"
    else into "$(dirname "$TARGET")"; cp -a "$one" "$TARGET"; fi
done
rm -rf "$work"
"""


@dataclass(frozen=True)
class Step:
    """One of the client's: `kind` is RUN, COPY, USER, WORKDIR or ENV; `files` the digest of what a COPY takes."""

    kind: str
    arguments: tuple[str, ...]
    files: str = ""


def parse(steps: Sequence[dict[str, Any]]) -> list[Step]:
    """Raises BadRequest, which names the step by its number."""
    found = []
    for number, step in enumerate(steps):
        kind, arguments, files = step.get("type"), step.get("args") or [], step.get("filesHash") or ""
        least = {"RUN": 1, "COPY": 2, "USER": 1, "WORKDIR": 1, "ENV": 2}.get(str(kind))
        if least is None:
            raise BadRequest(f"steps.{number}: type {kind!r} is none of RUN, COPY, USER, WORKDIR, ENV")
        if not isinstance(arguments, list) or len(arguments) < least or not all(map(_writable, arguments)):
            raise BadRequest(f"steps.{number}: {kind} takes texts, {least} or more")
        if kind == "COPY" and not HASH.fullmatch(str(files)):
            raise BadRequest(f"steps.{number}: filesHash {files!r} is no digest of files")
        found.append(Step(str(kind), tuple(arguments), str(files)))
    return found


def dockerfile(steps: Sequence[Step], start: str = "", ready: str = "") -> str:
    """The whole text. Archives of files are `files/<digest>` in the context. Raises BadRequest."""
    user, directory = "user", "/home/user"
    lines = ["ARG BASE", "FROM ${BASE}", f"USER {user}", f"WORKDIR {directory}"]
    for number, step in enumerate(steps):
        lines.append(f"{STEP}{number + 1}")
        try:
            match step.kind:
                case "RUN":
                    other = step.arguments[1] if len(step.arguments) > 1 else ""
                    lines += _as(other or user, user, run(step.arguments[0]))
                case "COPY":
                    lines += _as("root", user, copy(step, user, directory))
                case "USER":
                    user = _matching(USER, step.arguments[0], "a user's name")
                    lines += ["USER root", run(_make_user(user, step.arguments[1:] == ("true",))), f"USER {user}"]
                case "WORKDIR":
                    directory = _joined(directory, step.arguments[0])
                    made = f"install -d -o {user} {shlex.quote(directory)}"
                    lines += [*_as("root", user, run(made)), f"WORKDIR {_quoted(directory, literal=True)}"]
                case "ENV":
                    pairs = zip(step.arguments[::2], step.arguments[1::2], strict=False)
                    lines += [f"ENV {_matching(NAME, name, 'a variable')}={_quoted(value)}" for name, value in pairs]
        except BadRequest as error:
            raise BadRequest(f"steps.{number}: {error}") from None
    lines.append("USER root")
    if not (_writable(start) and _writable(ready)):
        raise BadRequest("the start command, or the ready command, has a NUL or half of a surrogate pair")
    if start:
        text = start_script(start, ready, user, directory)
        lines.append(
            run(f"install -d {START.rpartition('/')[0]}; printf %s {shlex.quote(text)} >{START}; chmod 755 {START}")
        )
    return "\n".join([*lines, "WORKDIR /code", ""])


def step_of(text: str, line: int) -> str:
    """The number of the step that a line of a Dockerfile, counted from 1, belongs to; empty if it is none's."""
    above = [one for one in text.split("\n")[:line] if one.startswith(STEP)]
    return above[-1].removeprefix(STEP) if above else ""


def run(command: str) -> str:
    return f"RUN {json.dumps(['/bin/bash', '-l', '-c', command])}"


def copy(step: Step, user: str, directory: str) -> str:
    source, target, owner, mode = (*step.arguments, "", "")[:4]
    if owner and not all(USER.fullmatch(one) for one in owner.split(":")):
        raise BadRequest(f"{owner!r} is no user, and no user:group")
    values = {
        "SOURCE": source,
        "TARGET": _joined(directory, target),
        "OWNER": owner or user,
        "MODE": _matching(MODE, mode, "a mode such as 0755") if mode else "",
    }
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
    mount = f"--mount=type=bind,source=files/{step.files},target=/run/copy.tar"
    return f"RUN {mount} {json.dumps(['/bin/bash', '-c', f'{settings}; {COPY}'])}"


def start_script(start: str, ready: str, user: str, directory: str) -> str:
    """What runs beside the agent. It says a word when `ready` succeeds: for that word a new sandbox is waited for."""
    command = f"cd {shlex.quote(directory)} && exec /bin/bash -l -c {shlex.quote(start)}"
    lines = [
        "#!/bin/bash",
        f"runuser -u {user} -- /bin/bash -c {shlex.quote(command)} >/var/log/template-start.log 2>&1 &",
    ]
    if ready and ready != READY_OF_DOCKERFILES:
        check = f"runuser -u {user} -- /bin/bash -l -c {shlex.quote(ready)} >/dev/null 2>&1"
        lines.append(f"until {check}; do kill -0 $! || break; sleep {READY_EVERY_S}; done")
    return "\n".join([*lines, "echo the start command runs", "wait", ""])


def _make_user(name: str, sudoer: bool) -> str:
    made = f"id {name} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {name}"
    rule = f"; echo '{name} ALL=(ALL:ALL) NOPASSWD:ALL' >/etc/sudoers.d/{name}; chmod 440 /etc/sudoers.d/{name}"
    return made + (rule if sudoer else "")


def _as(user: str, then: str, line: str) -> list[str]:
    _matching(USER, user, "a user's name")
    return [line] if user == then else [f"USER {user}", line, f"USER {then}"]


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise BadRequest(f"{text!r} is not {what}")
    return text


def _writable(value: object) -> bool:
    """Whether it is a text that a file and a command line can hold."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _quoted(text: str, literal: bool = False) -> str:
    """As one word of a Dockerfile, which is read otherwise than JSON: `$NAME` is replaced there unless `literal`."""
    if "\n" in text or "\r" in text:
        raise BadRequest(f"{text!r} has a line break, which no line of a Dockerfile can hold")
    dollar = r"\$" if literal else "$"
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped.replace("$", dollar)}"'


def _joined(directory: str, path: str) -> str:
    if "\n" in path or not path:
        raise BadRequest(f"{path!r} is no path")
    return path if path.startswith("/") else f"{directory.rstrip('/')}/{path}"
