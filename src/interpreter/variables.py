"""Code that gives a kernel environment variables for one execution, and takes them back. Values only.

The kernel itself keeps what the variables were, so that no second conversation with it is needed. Nothing of this
shows among the names of the user's program.
"""

import json
from collections.abc import Mapping

PYTHON_SET = """
import json, os, sys
new = json.loads({new!r})
sys._interpreter_variables = {{name: os.environ.get(name) for name in new}}
os.environ.update(new)
"""
PYTHON_RESTORE = """
import os, sys
for name, value in sys.__dict__.pop("_interpreter_variables", {}).items():
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
"""
JAVASCRIPT_SET = """{{
    const before = globalThis[Symbol.for("interpreter.variables")] = {{}};
    for (const [name, value] of Object.entries({new})) {{
        before[name] = Deno.env.get(name);
        Deno.env.set(name, value);
    }}
    undefined;
}}"""
JAVASCRIPT_RESTORE = """{
    for (const [name, value] of Object.entries(globalThis[Symbol.for("interpreter.variables")] ?? {})) {
        if (value === undefined) Deno.env.delete(name); else Deno.env.set(name, value);
    }
    delete globalThis[Symbol.for("interpreter.variables")];
    undefined;
}"""
BASH_SAVED = "__interpreter_"


def python_set(new: Mapping[str, str]) -> str:
    return python_hidden(PYTHON_SET.format(new=json.dumps(new)))


def python_restore(new: Mapping[str, str]) -> str:
    return python_hidden(PYTHON_RESTORE)


def python_hidden(code: str) -> str:
    """`code` with a namespace of its own."""
    return f"exec({code!r}, {{}})"


def javascript_set(new: Mapping[str, str]) -> str:
    return JAVASCRIPT_SET.format(new=json.dumps(new))


def javascript_restore(new: Mapping[str, str]) -> str:
    return JAVASCRIPT_RESTORE


def bash_set(new: Mapping[str, str]) -> str:
    lines = []
    for name, value in new.items():
        lines.append(f'[[ -v {name} ]] && {BASH_SAVED}{name}="${name}"')
        lines.append(f"export {name}={_bash_word(value)}")
    return "\n".join(lines)


def bash_restore(new: Mapping[str, str]) -> str:
    lines = []
    for name in new:
        saved = f"{BASH_SAVED}{name}"
        lines.append(f'if [[ -v {saved} ]]; then export {name}="${saved}"; unset {saved}; else unset {name}; fi')
    return "\n".join(lines)


def _bash_word(value: str) -> str:
    """`value` in one line, for a shell that reads line by line."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return "$'" + escaped.replace("\t", "\\t") + "'"
