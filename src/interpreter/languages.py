"""The languages, and the kernel of each: how it is started and what is particular about it. Values only.

Python is the sandbox's own, so that what pip installs is what a program imports; the kernel for bash runs on it, too.
JavaScript and TypeScript are Deno's: its kernel is part of the Deno binary, whose releases keep up with both languages,
while the kernels of npm (tslab, ijavascript) have stood still. It awaits at top level, and has Node's `require`.
"""

import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from envd.errors import invalid_argument
from interpreter import variables

PROGRAMS = os.path.join(os.path.dirname(__file__), "programs")  # of kernels: read by the sandbox's user

# A user's own packages are found at once, even those of the first `pip install`: Python looks for their directory only
# when it starts.
PYTHON_PREPARE = """
import os, site, sys
if site.ENABLE_USER_SITE:
    path = site.getusersitepackages()
    os.makedirs(path, exist_ok=True)
    if path not in sys.path:
        shared = [at for at, each in enumerate(sys.path) if each.endswith(("site-packages", "dist-packages"))]
        sys.path.insert(shared[0] if shared else len(sys.path), path)  # where Python itself would have it
"""
JAVASCRIPT_PREPARE = """{
    const { createRequire } = await import("node:module");
    globalThis.require = createRequire("file://" + Deno.cwd() + "/");
    undefined;
}"""


# Results are sent by the thread that runs JavaScript, one after the other; whether it is idle says another one.
JAVASCRIPT_FENCE = 'await Deno.jupyter.broadcast("comm_msg", { comm_id: "fence", data: {} })'


@dataclass(frozen=True)
class Language:
    """`program` is looked up in the PATH of the sandbox; its `arguments` follow."""

    name: str
    program: str
    arguments: tuple[str, ...]
    set_variables: Callable[[Mapping[str, str]], str]
    restore_variables: Callable[[Mapping[str, str]], str]
    prepare: str = ""  # what the kernel runs before anything else
    environment: Mapping[str, str] = field(default_factory=dict)
    transport: str = "ipc"  # sockets in a directory; "tcp", ports of 127.0.0.1, for kernels that know no others
    interruptible: bool = True  # whether SIGINT ends what it runs, and not the kernel itself
    # For a kernel that may say that it is idle before it has sent its last result: what sends something after that.
    fence: str = ""


def _deno(name: str) -> Language:
    return Language(
        name,
        "deno",
        ("jupyter", "--kernel", "--conn", "{connection_file}"),
        variables.javascript_set,
        variables.javascript_restore,
        prepare=JAVASCRIPT_PREPARE,
        environment={"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        transport="tcp",
        interruptible=False,
        fence=JAVASCRIPT_FENCE,
    )


LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        "python",
        "python3",
        ("-m", "ipykernel_launcher", "-f", "{connection_file}"),
        variables.python_set,
        variables.python_restore,
        prepare=variables.python_hidden(PYTHON_PREPARE),
    ),
    "javascript": _deno("javascript"),
    "typescript": _deno("typescript"),
    "bash": Language(
        "bash",
        "python3",
        (os.path.join(PROGRAMS, "bash.py"), "-f", "{connection_file}"),
        variables.bash_set,
        variables.bash_restore,
    ),
}
SHORT = {"py": "python", "js": "javascript", "ts": "typescript", "sh": "bash"}


def find_language(name: str | None) -> Language:
    """Python when there is no name; raises `invalid_argument` for a language that there is not."""
    wanted = (name or "python").lower()
    language = LANGUAGES.get(SHORT.get(wanted, wanted))
    if language is None:
        raise invalid_argument(f"language '{name}' is not supported: use one of {', '.join(sorted(LANGUAGES))}")
    return language
