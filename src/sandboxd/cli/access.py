"""Who may open the ports of a sandbox: the verb `access`, and the links of `get-host --private`."""

from argparse import Namespace
from typing import Any

from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import OK, USAGE, CliError

DEFAULT_S = 3600.0  # for which a link opens a port, if it is not said
TOKEN = "trafficAccessToken"


def run(options: Namespace, config: str) -> int:
    """Without a mode and --revoke it only shows."""
    control = ControlPlane(place.read(config).socket)
    path = f"{sandbox_path(options.id)}/access"
    found: dict[str, Any] = control.get(path)
    if options.mode or options.revoke:
        found = control.call("PUT", path, {"access": options.mode or found["access"], "revoke": options.revoke})
    if options.token:
        return show_token(options, found)
    shown = {key: value for key, value in found.items() if key != TOKEN}
    printing.show(options, shown, lambda: "\n".join(lines(found)))
    return OK


def show_token(options: Namespace, found: dict[str, Any]) -> int:
    if not found[TOKEN]:
        sandbox_id, mode = found["sandboxID"], found["access"]
        raise CliError(f"sandbox {sandbox_id} has the access {mode}: there is no token. See: access {sandbox_id} token")
    printing.show(options, found, lambda: str(found[TOKEN]))
    return OK


def lines(found: dict[str, Any]) -> list[str]:
    return [f"{found['sandboxID']}: {found['access']}", *password_lines(found)]


def password_lines(found: dict[str, Any]) -> list[str]:
    """Of an answer that has a password, which it has once."""
    return [f"user: {found['user']}", f"password: {found['password']}"] if "password" in found else []


def link(control: ControlPlane, sandbox_id: str, port: int | None, seconds: float | None) -> dict[str, Any]:
    """The `url`, and when it `expiresAt`, of a new link to one port. Raises CliError."""
    wanted = {"port": port, "seconds": DEFAULT_S if seconds is None else seconds}
    made: dict[str, Any] = control.post(f"{sandbox_path(sandbox_id)}/link", wanted)
    return made


def check(options: Namespace) -> None:
    """Raises CliError for a time without a link."""
    if options.seconds is not None and not options.private:
        raise CliError("--for is how long a link lasts: it needs --private.", USAGE)
