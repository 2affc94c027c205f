"""The few operations that pyinfra does not have in the form that we need. Each yields only the difference."""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Callable, Generator, Sequence
from pathlib import PurePosixPath
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import apt, files

from deploys import facts
from deploys.settings import Settings

SPEC_LABEL = "sandbox.spec"
UNITS = PurePosixPath("/etc/systemd/system")
Commands = Generator[Any, None, None]


def located(path: str, settings: Settings) -> str:
    """Where `templates/<path>.j2` lies on the host; `project-` in the path becomes the project's prefix."""
    return "/" + path.replace("project-", f"{settings.project}-")


def place(path: str, settings: Settings, mode: str = "644", **data: Any) -> OperationMeta:
    """Write a template to where it belongs on the host."""
    dest = located(path, settings)
    return files.template(
        name=f"Write {dest}",
        src=f"templates/{path}.j2",
        dest=dest,
        user="root",
        group="root",
        mode=mode,
        jinja_env_kwargs={"trim_blocks": True, "lstrip_blocks": True},
        settings=settings,
        **data,
    )


def packages(purpose: str, wanted: Sequence[str], always: Callable[[], bool] | None = None) -> OperationMeta:
    """Install Debian packages; the lists are refreshed only when one is missing, so that a later run changes nothing.

    `always` is a condition under which the lists are refreshed as well, such as a new source.
    """

    def missing() -> bool:
        return bool(set(wanted) - set(host.get_fact(DebPackages))) or bool(always and always())

    apt.update(name=f"Refresh package lists for {purpose}", _if=missing)
    return apt.packages(name=f"Install {purpose}", packages=list(wanted), no_recommends=True)


@operation()
def secret(dest: str, content: str) -> Commands:
    """Write a file that only root reads, through stdin into a file that is closed from the start.

    `files.put` would show the content with --diff, and through sudo leave a copy in /tmp that all may read meanwhile.
    """
    content = content.rstrip("\n") + "\n"
    wanted = hashlib.sha256(content.encode()).hexdigest()
    quoted = shlex.quote(dest)
    found = f"sha256sum <{quoted} | cut -d' ' -f1; stat -c '%U:%G %a' {quoted}"
    if host.get_fact(facts.Output, command_line=found).split() != [wanted, "root:root", "600"]:
        write = f"umask 077 && cat >{quoted}.new && chown root:root {quoted}.new && mv {quoted}.new {quoted}"
        yield StringCommand(write, _stdin=content)


@operation()
def unit(unit: str, files: Sequence[str] = (), enabled: bool = True, start: str = "") -> Commands:
    """Keep a service enabled and running, on its present unit file, and restart it when one of `files` is newer than
    its start. (Comparing times instead of asking what this run changed survives an interrupted run.) One of them may
    be the file of a unit that this one starts.

    `start` is a command that starts it, or starts it anew, in place of systemctl.
    """
    quoted = shlex.quote(unit)
    state = host.get_fact(facts.Unit, unit=unit, files=tuple(files))
    if state.needs_reload or not state.enabled or PurePosixPath(state.stale_file).parent == UNITS:
        yield "systemctl daemon-reload"
    if enabled and state.enabled not in ("enabled", "static", "alias", "indirect", "generated"):
        yield f"systemctl enable {quoted}"
    if state.active == "active" and (state.stale_file or state.needs_reload):
        yield start or f"systemctl restart {quoted}"
    elif state.active != "active":
        yield start or f"systemctl reset-failed {quoted} 2>/dev/null; systemctl start {quoted}"


@operation()
def container(
    container: str, image: str, options: Sequence[str], arguments: Sequence[str] = (), version: str = ""
) -> Commands:
    """Run a container, and run it anew whenever its image, options, arguments or `version` change."""
    spec = json.dumps([image, list(options), list(arguments), version])
    wanted = hashlib.sha256(spec.encode()).hexdigest()[:12]
    current = host.get_fact(facts.Container, container=container)
    quoted = shlex.quote(container)
    if current and current["Config"]["Labels"].get(SPEC_LABEL) == wanted:
        if not current["State"]["Running"]:
            yield f"docker start {quoted}"
        return
    if current:
        yield f"docker rm --force {quoted}"
    words = [
        "docker",
        "run",
        "--detach",
        "--name",
        container,
        "--label",
        f"{SPEC_LABEL}={wanted}",
        *options,
        image,
        *arguments,
    ]
    yield " ".join(shlex.quote(word) for word in words)


@operation()
def image(
    tag: str, build: str, context: Callable[[], bytes] | None = None, directory: str = "", spared: str = "/dev/null"
) -> Commands:
    """Make a Docker image unless the host has its tag. The tag carries the hash of all that goes into it.

    `build` is the shell command that makes it; `context`, if any, gives a tar archive that is unpacked in `directory`
    first. Older tags of the same image that nothing uses are removed afterwards, but for those that the configuration
    `spared` on the host names: a failed upgrade goes back to it.
    """
    if tag in host.get_fact(facts.ImageTags):
        return
    if context is not None:
        archive = f"{directory}.tar"
        yield FileUploadCommand(io.BytesIO(context()), archive, remote_temp_filename=host.get_temp_filename(archive))
        yield f"rm -rf {directory} && mkdir -p {directory} && tar -xf {archive} -C {directory} && rm {archive}"
    yield build
    yield without_older(tag, spared)


def without_older(tag: str, spared: str) -> str:
    """The command that removes the other tags of an image that nothing uses and the file `spared` does not name."""
    name = tag.rpartition(":")[0]
    all_tags = f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {shlex.quote(name)}"
    named = f"sed -n 's/^image = \"\\(.*\\)\"$/\\1/p' {shlex.quote(spared)} 2>/dev/null"
    others = f'grep -vxF {shlex.quote(tag)} | grep -vxF "$({named})"'
    return f"{all_tags} | {others} | xargs -r docker image rm 2>/dev/null; true"


@operation()
def when(condition: str, commands: Sequence[str]) -> Commands:
    """Run `commands` when the shell command `condition`, which only reads, prints anything."""
    if host.get_fact(facts.Output, command_line=condition):
        yield from commands


class Shown(StringCommand):
    """A command that takes long, and whose output is shown line by line as it comes."""

    def execute(self, state: State, host: Host, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        connector_arguments.update(self.connector_arguments)
        status, _ = host.run_shell_command(
            self, print_output=True, print_input=state.print_input, **connector_arguments
        )
        return status, CommandOutput([])  # else pyinfra shows it once more when the command fails


@operation()
def shown_when(condition: str, command: str) -> Commands:
    """Run `command`, and show what it prints, when the shell command `condition`, which only reads, prints anything."""
    if host.get_fact(facts.Output, command_line=condition):
        yield Shown(command)
