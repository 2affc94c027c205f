"""What one host of a fleet tells another one while a deploy runs. It goes through this process alone: a secret is in no
command, no fact (those are shown with -vvv) and no output.
"""

from __future__ import annotations

from pyinfra.api import StringCommand
from pyinfra.api.host import Host
from pyinfra.connectors.util import CommandOutput, OutputLine


def told(by: Host, command: StringCommand) -> tuple[str, str]:
    """What the command says on that host, empty when it fails; and what it complains of."""
    sudo = {"_sudo": True} if by.data.get("_sudo") else {}
    done, output = by.run_shell_command(command, print_output=False, print_input=False, **sudo)
    return output.stdout.strip() if done else "", output.stderr


def complaint(text: str) -> CommandOutput:
    """The output of a command that fails for that reason."""
    return CommandOutput([OutputLine("stderr", text)])
