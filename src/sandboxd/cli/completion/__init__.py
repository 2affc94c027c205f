"""The verb `completion`: prints the script that teaches a shell to complete our command lines.

Made from the declarations of the verbs at each call, so that it cannot say anything else than they do.
"""

from argparse import Namespace
from importlib import import_module

from sandboxd.cli import place
from sandboxd.cli.completion.model import of_all_verbs
from sandboxd.cli.exits import OK


def run(options: Namespace, config: str) -> int:
    shell = import_module(f"sandboxd.cli.completion.{options.shell}")
    print(shell.script(of_all_verbs(place.templates(config))), end="")
    return OK
