"""The internal authority of a fleet: that of its first manager, which the other managers take over, so that clients who
trust one trust all.
"""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput

from deploys import facts, swarmfacts
from deploys.handover import complaint, told
from deploys.operations import Commands, when
from deploys.preflight import settings
from deploys.settings import Settings


@deploy("Authority of the fleet")
def share() -> None:
    """On the other managers; the first one has made its own by then."""
    wanted = settings()
    if wanted.shares_authority:
        take_over(name="Take over the authority", wanted=wanted)
        command = f"{wanted.lib}/internal-certificate"
        when(name="Make the certificate by it", condition=f"{command} --check", commands=[command])


def _of(one: Host, wanted: Settings) -> str:
    """The certificate of the authority that a host has; empty for none."""
    command = f"cat {wanted.etc}/ca/ca.pem 2>/dev/null || true"
    return str(one.get_fact(facts.Output, command_line=command) or "")


@operation()
def take_over(wanted: Settings) -> Commands:
    """Have the authority of the first manager."""
    theirs = _of(swarmfacts.member(wanted.fleet_managers[0]), wanted)
    if theirs and theirs != _of(host, wanted):
        yield TakeOver(wanted)


class TakeOver(StringCommand):
    def __init__(self, wanted: Settings) -> None:
        # The certificate is for everybody to read, as where it was made.
        ca = f"{wanted.etc}/ca"
        super().__init__(f"umask 077 && mkdir -p {ca} && base64 -d | tar -xf - -C {ca} && chmod 755 {ca}")
        self.wanted = wanted

    def execute(self, state: State, host: Host, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        first = swarmfacts.member(self.wanted.fleet_managers[0])
        packed, why = told(first, StringCommand(f"tar -cf - -C {self.wanted.etc}/ca ca.key ca.pem | base64 -w0"))
        if not packed:
            return False, complaint(f"{first.name} does not give its internal authority: {why}")
        connector_arguments["_stdin"] = packed
        return host.run_shell_command(
            self, print_output=state.print_output, print_input=state.print_input, **connector_arguments
        )
