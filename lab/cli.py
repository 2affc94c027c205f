"""The command line of the lab: arguments in, results on stdout, progress and errors on stderr."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import build, create, engine, host
from lab.errors import LabError, UsageError
from lab.settings import DEFAULT_HTTPS_PORT, DEFAULT_NAME, SHARED, debian_suite

EPILOG = """\
examples:
  python3 -m lab up                               a Debian 13 host named "lab"
  python3 -m lab up old --debian bookworm         a second one beside it, Debian 12
  python3 -m lab up web --publish-https 8443      its port 443 as https://127.0.0.1:8443 of this machine
  python3 -m lab up one --address 10.231.0.11     it keeps this address, as the hosts of a fleet must
  python3 -m lab ssh lab systemctl --failed       one command; without one, a shell
  python3 -m lab restart lab                      the reboot test
  python3 -m lab down old                         gone, with its volumes and keys

exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such lab, 4 no Docker engine; `ssh`: those of the command.
environment: LAB_PREFIX names containers and images (default sandbox-lab).
"""

log = logging.getLogger("lab")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python3 -m lab",
        description="Throwaway Debian hosts (systemd, sshd, room for their own Docker) in containers of this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("-v", "--verbose", action="store_true", help="show every program that is run")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")

    one = add("up", "make a lab and wait until it can be reached; one that is up stays as it is")
    one.add_argument("name", nargs="?", default=DEFAULT_NAME, metavar="NAME", help="default: %(default)s")
    one.add_argument("--debian", metavar="SUITE", help="trixie (13, default) or bookworm (12)")
    one.add_argument(
        "--publish-https",
        metavar="PORT",
        type=int,
        nargs="?",
        const=DEFAULT_HTTPS_PORT,
        help="make port 443 of a new lab reachable as 127.0.0.1:PORT (default: %(const)s)",
    )
    one.add_argument(
        "--address",
        metavar="IPV4",
        default="",
        help="the address of a new lab, which it keeps, in a /24 that all labs with such addresses share",
    )
    one.add_argument(
        "--share", metavar="DIR", type=Path, help=f"a directory of this machine that a new lab has at {SHARED}"
    )
    one.add_argument("--json", action="store_true", help="print the lab as JSON")

    down = add("down", "remove labs, with their volumes and keys")
    down.add_argument("names", nargs="*", metavar="NAME")
    down.add_argument("--all", action="store_true", help="every lab of this working copy")

    status = add("status", "list the labs of this working copy")
    status.add_argument("--json", action="store_true", help="print a JSON list")

    ssh = add("ssh", "run a command as root on a lab, or a shell")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")

    restart = add("restart", "reboot a lab and wait until it can be reached again")
    restart.add_argument("name", nargs="?", default=DEFAULT_NAME, metavar="NAME", help="default: %(default)s")

    logs = add("logs", "print console, failed units, warnings and containers of a lab")
    logs.add_argument("name", nargs="?", default=DEFAULT_NAME, metavar="NAME", help="default: %(default)s")

    image = add("build", "build the image of a lab when it is missing, and print its name")
    image.add_argument("--debian", default="trixie", metavar="SUITE", help="trixie (13, default) or bookworm (12)")
    image.add_argument("--force", action="store_true", help="build it again, with today's packages")
    return top


def show_progress(verbose: bool = False) -> None:
    """Print what the lab does on stderr, with the seconds since the start."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("lab: %(seconds)5.1f s  %(message)s"))
    handler.addFilter(_seconds)
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.DEBUG if verbose else logging.INFO)


def _seconds(record: logging.LogRecord) -> bool:
    record.seconds = record.relativeCreated / 1000
    return True


def reach(lab: host.Lab) -> str:
    """Return the lines that tell how to get at a lab."""
    lines = [
        f"{lab.name}: Debian {lab.debian} at {lab.address}",
        f"  python3 -m lab ssh {lab.name}",
        f"  ssh -F {os.path.relpath(lab.ssh_config)} {lab.name}",
    ]
    lines += [f"  port {inside} is {outside} of this machine" for inside, outside in lab.published.items()]
    return "\n".join(lines)


def table(found: Sequence[host.Lab]) -> str:
    """Return labs as lines for a person."""
    rows = [("NAME", "DEBIAN", "STATE", "ADDRESS", "IMAGE")]
    rows += [(lab.name, lab.debian, "up" if lab.running else "stopped", lab.address or "-", lab.image) for lab in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def perform(args: argparse.Namespace) -> int:
    """Do what the arguments say; return the exit code."""
    if args.command == "up":
        before = _running(args.name)
        lab = create.up(
            args.name, args.debian, publish_https=args.publish_https, address=args.address, share=args.share
        )
        log.info("%s was up already" if before else "%s is up", lab.name)
        if args.publish_https and f"127.0.0.1:{args.publish_https}" not in lab.published.values():
            log.warning("its ports stay as they were; to publish one: python3 -m lab down %s, then up", lab.name)
        print(json.dumps(lab.as_dict(), indent=2) if args.json else reach(lab))
        return 0
    if args.command == "down":
        if bool(args.names) == args.all:
            raise UsageError("down takes either names or --all", "run: python3 -m lab status   to see the names")
        for name in [lab.name for lab in host.labs()] if args.all else args.names:
            host.down(name)
            log.info("%s is gone", name)
    elif args.command == "status":
        found = host.labs()
        print(json.dumps([lab.as_dict() for lab in found], indent=2) if args.json else table(found))
    elif args.command == "ssh":
        words = args.words[1:] if args.words[:1] == ["--"] else args.words
        sys.stdout.flush()
        os.execvp("ssh", host.find(args.name).ssh_command(*words))
    elif args.command == "restart":
        print(reach(host.get(args.name).restart()))
    elif args.command == "logs":
        print(host.get(args.name).report())
    elif args.command == "build":
        engine.ensure()
        print(build.ensure_image(debian_suite(args.debian), force=args.force))
    return 0


def _running(name: str) -> bool:
    try:
        return any(lab.name == name and lab.running for lab in host.labs())
    except LabError:  # no engine yet
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = parser().parse_args(arguments)
    show_progress(args.verbose)
    try:
        code = perform(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lab: interrupted; `python3 -m lab status` shows what is there", file=sys.stderr)
        return 130
