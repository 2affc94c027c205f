"""What an image wants to run beside the agent: the programs of a directory, started as root when the agent starts.

A template's server belongs there, and needs no process manager of its own: the agent answers only when it is ready, so
that a new sandbox is complete, and starts it again when it fails. Starts processes, by way of `spawn`.
"""

import asyncio
import base64
import logging
import os
import pwd

from envd.config import AGENT_FILE_VARIABLE, TOKEN_VARIABLE, ConfigSource
from envd.errors import EnvdError
from envd.processes import Process, ProcessTable
from envd.spawn import Command, spawn
from envd.users import User, find_user

START_DIRECTORY = "/etc/sandbox/start.d"
TAG = "start"  # what a list of processes calls them
RESTART_S = 1.0
READY_TIMEOUT_S = 10.0
QUIET_S = 3600.0  # a subscription says something at least so often; here nobody needs it

log = logging.getLogger("envd")


async def start_all(directory: str, source: ConfigSource, table: ProcessTable) -> set[asyncio.Task[None]]:
    """Start all programs of `directory`, which need not exist, and wait until all are ready.

    One is ready when it has said something, or has ended. After READY_TIMEOUT_S the others are not waited for. The
    tasks that are returned keep the programs running; cancel them to start none again.
    """
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return set()
    owner = find_user(pwd.getpwuid(os.geteuid()).pw_name)
    tasks, ready = set(), []
    for name in names:
        ready.append(asyncio.Event())
        tasks.add(asyncio.create_task(_keep(os.path.join(directory, name), owner, source, table, ready[-1])))
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            for event in ready:
                await event.wait()
    except TimeoutError:
        silent = [name for name, event in zip(names, ready, strict=True) if not event.is_set()]
        log.warning("%s said nothing within %g s: going on without", ", ".join(silent), READY_TIMEOUT_S)
    return tasks


async def _keep(path: str, owner: User, source: ConfigSource, table: ProcessTable, ready: asyncio.Event) -> None:
    """Run one program again and again until its exit status is 0. Its output goes to the agent's log."""
    # Where there is no agent.json, these are how the token is known: root's programs may know it, too.
    known = {key: os.environ[key] for key in (AGENT_FILE_VARIABLE, TOKEN_VARIABLE) if key in os.environ}
    command = Command(path, envs=known, cwd="/", stdin=False)
    while True:
        try:
            process = table.add(command, TAG, spawn(command, owner, source.current()))
        except EnvdError as error:
            log.error("%s: %s", path, error)
            ready.set()
            return
        status = await _follow(os.path.basename(path), process, ready)
        ready.set()
        if status == "exit status 0":
            return
        log.error("%s: %s; it is started again in %g s", path, status, RESTART_S)
        await asyncio.sleep(RESTART_S)


async def _follow(name: str, process: Process, ready: asyncio.Event) -> str:
    """Log what a process says, and return how it ended."""
    subscription = process.subscribe()
    status = ""
    try:
        async for event in subscription.events(QUIET_S):  # the last one is the end
            status = str(event.get("end", {}).get("status", ""))
            for data in event.get("data", {}).values():
                ready.set()
                for line in base64.b64decode(data).decode(errors="replace").splitlines():
                    log.info("%s: %s", name, line)
    finally:
        process.unsubscribe(subscription)
    return status
