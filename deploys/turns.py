"""One deploy of a host at a time: two would write the same files and restart the same services in between each other.

The turn belongs to the SSH connection over which a deploy works, by the process that serves it on the host: when the
deploy ends, however that is, so does that process, and with it the turn. Nothing is left to be cleared away.
Writes one file below /run of the host.
"""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import FactBase
from pyinfra.api.exceptions import DeployError

# Climbs to the process of sshd that serves this connection. A process is named by its number and its start, which is
# field 22 of proc(5)'s `stat`: counted from behind the name, which may have anything in it, the 20th.
COMMAND = r"""
file=%s
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
own=$$
while [ "$own" -gt 1 ] && ! grep -q '^Name:.sshd' "/proc/$own/status"; do
    own=$(awk '/^PPid:/ {print $2}' "/proc/$own/status")
done
[ "$own" -gt 1 ] || exit 0
exec 9>>"$file"
flock 9
read -r other start since <"$file"
if [ -n "$other" ] && [ "$other" != "$own" ] && [ "$(started "$other")" = "$start" ]; then
    echo "$other $since"
else
    echo "$own $(started "$own") $(date -u +%%Y-%%m-%%dT%%H:%%M:%%SZ)" >"$file"
fi
"""


class Turn(FactBase[str]):
    """Takes the turn: "" when it is ours, else the process that has it and since when.

    It writes, and is a fact all the same: it comes before all else, also in a plan, and is no change of the host. A
    connection that no sshd serves has no turn and needs none.
    """

    default = str

    def command(self, file: str) -> str:
        return "sh -c " + shlex.quote(COMMAND % shlex.quote(file))

    def process(self, output: list[str]) -> str:
        return output[0].strip() if output else ""


def take(name: str) -> None:
    """Stop before the first change when another deploy is at work. `name` is that of the installation."""
    if holder := host.get_fact(Turn, file=f"/run/{name}-deploy"):
        process, _, since = holder.partition(" ")
        raise DeployError(
            f"{host.name}: another deploy or plan has been at work there since {since}, and two at once would be in"
            f" each other's way. Wait for its end and try again; if it hangs, end it on the host: kill {process}"
        )
