"""The console at https://console.<domain>: a program, a user and a socket of its own; or, switched off, none of it."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys.environments import Program, environment
from deploys.images import digest
from deploys.operations import place, unit, when
from deploys.preflight import settings
from deploys.sandboxd import GROUP
from deploys.settings import Settings

PROGRAM = Program("console", "requirements/console.txt", "console.app")


def user(wanted: Settings) -> str:
    return f"{wanted.project}-console"


def units(wanted: Settings) -> list[str]:
    """In the order in which they are stopped: a request to the socket would start the service again."""
    return [f"{wanted.project}-console.socket", f"{wanted.project}-console.service"]


def socket(wanted: Settings) -> str:
    """Where the gateway reaches it. systemd makes it, so that only the gateway can."""
    return f"/run/{wanted.name}-console.sock"


def link(wanted: Settings) -> str:
    return f"{wanted.opt}/console"


@deploy("Console")
def pages() -> None:
    """Installed and running, if it is wanted; else taken away."""
    wanted = settings()
    if not wanted.console:
        remove(wanted)
        return
    name, secret = user(wanted), f"{wanted.etc}/secrets/console_key"
    when(
        name=f"Make the user {name}",
        condition=f"id -u {name} >/dev/null 2>&1 || echo missing",
        commands=[f"useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin {name}"],
    )
    when(
        name="Make the key of sessions",
        condition=f"[ -s {secret} ] || echo missing",
        commands=[f"umask 077 && openssl rand -hex 32 >{secret}"],
    )
    files.file(name="Close the key of sessions", path=secret, user="root", group="root", mode="600")
    environment(name="Install the console", link=link(wanted), version=digest(PROGRAM.files()), program=PROGRAM)
    values = {"python": f"{link(wanted)}/bin/python", "login": name, "control": GROUP, "socket": socket(wanted)}
    for kind in ("socket", "service"):
        place(f"etc/systemd/system/project-console.{kind}", wanted, **values)
    unit(name="Open the console's socket", unit=f"{wanted.project}-console.socket")
    unit(
        name="Run the console",
        unit=f"{wanted.project}-console.service",
        files=[f"{wanted.etc}/config.toml", f"{link(wanted)}/pyvenv.cfg"],
    )


def remove(wanted: Settings) -> None:
    """Its units and its code go. User, key and ended sessions are data."""
    for one in units(wanted):
        when(
            name=f"Stop {one}",
            condition=f"systemctl cat {one}",
            commands=[f"systemctl disable --now {one}", f"rm /etc/systemd/system/{one}", "systemctl daemon-reload"],
        )
    found = f"{link(wanted)} {link(wanted)}s"
    when(name="Remove the console", condition=f"ls -d {found}", commands=[f"rm -rf {found}"])
