"""The verb `metrics`: the page that Prometheus gets."""

from argparse import Namespace

from sandboxd.cli import place
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import OK


def run(options: Namespace, config: str) -> int:
    print(ControlPlane(place.read(config).socket).text("/metrics"), end="")
    return OK
