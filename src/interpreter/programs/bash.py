"""The kernel for bash, a program of its own: bash_kernel, whose interrupts reach what runs.

The sandbox's own Python runs it, which knows nothing of the interpreter: it imports only what that one has.
"""

import os
import secrets

from bash_kernel.kernel import BashKernel
from ipykernel.kernelapp import IPKernelApp
from pexpect import EOF, TIMEOUT

REPEAT_S = 0.5
TRIES = 120  # the interpreter's patience ends before


class Bash(BashKernel):  # type: ignore[misc]  # it has no types
    """bash_kernel sends one Ctrl-C. One that comes while bash starts a program is lost, and the program goes on."""

    def _start_bash(self) -> None:
        super()._start_bash()
        self.bashwrapper.child.sendintr = self._interrupt

    def _interrupt(self) -> None:
        """Send Ctrl-C until bash has the terminal again, and leave one prompt to be read, whatever became of each.

        Ends the kernel when bash has ended by it: who asks for something next is told what is lost.
        """
        shell = self.bashwrapper
        for _ in range(TRIES):
            shell.child.sendcontrol("c")
            try:
                shell._expect_prompt(timeout=REPEAT_S)
                break
            except TIMEOUT:
                if not shell.child.isalive():  # a program that it leaves behind may keep the terminal open
                    os._exit(1)
            except EOF:
                os._exit(1)
        self.process_output(shell.child.before)
        token = secrets.token_hex(8)
        shell.child.sendline(f"echo {token[:8]}''{token[8:]}")  # the prompts of those that came late are before it
        shell.child.expect_exact(f"{token}\r\n")


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=Bash)
