"""What an image wants to run beside the agent: the programs of a directory, started as root when the agent starts.

A template's server belongs there, and needs no process manager of its own. Starts processes, by way of `spawn`.
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
QUIET_S = 3600.0  # a subscription says something at least so often; here nobody needs it

log = logging.getLogger("envd")


async def run_all(directory: str, source: ConfigSource, table: ProcessTable) -> None:
    """Run all programs of `directory`, which need not exist, until all have ended well."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return
    owner = find_user(pwd.getpwuid(os.geteuid()).pw_name)
    await asyncio.gather(*(_keep(os.path.join(directory, name), owner, source, table) for name in names))


async def _keep(path: str, owner: User, source: ConfigSource, table: ProcessTable) -> None:
    """Run one program again and again until its exit status is 0. Its output goes to the agent's log."""
    name = os.path.basename(path)
    # Where there is no agent.json, these are how the token is known: root's programs may know it, too.
    known = {key: os.environ[key] for key in (AGENT_FILE_VARIABLE, TOKEN_VARIABLE) if key in os.environ}
    command = Command(path, envs=known, cwd="/", stdin=False)
    while True:
        try:
            process = table.add(command, TAG, spawn(command, owner, source.current()))
        except EnvdError as error:
            log.error("%s: %s", path, error)
            return
        status = await _follow(name, process)
        if status == "exit status 0":
            return
        log.error("%s: %s; it is started again in %g s", path, status, RESTART_S)
        await asyncio.sleep(RESTART_S)


async def _follow(name: str, process: Process) -> str:
    """Log what a process says, and return how it ended."""
    subscription = process.subscribe()
    status = ""
    try:
        async for event in subscription.events(QUIET_S):  # the last one is the end
            status = str(event.get("end", {}).get("status", ""))
            for data in event.get("data", {}).values():
                for line in base64.b64decode(data).decode(errors="replace").splitlines():
                    log.info("%s: %s", name, line)
    finally:
        process.unsubscribe(subscription)
    return status
