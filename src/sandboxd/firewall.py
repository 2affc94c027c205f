"""Raises the wall around all sandboxes: `python -m sandboxd.firewall --config FILE`, in the unit <project>-firewall.

It may be run at any time, also before Docker. What single sandboxes may reach, sandboxd adds; until then, nothing.
"""

import argparse
import sys
from pathlib import Path

from sandboxd import config, netns, nftables
from sandboxd.errors import ConfigError, HostError
from sandboxd.guard import Guard


def main() -> int:
    parser = argparse.ArgumentParser("firewall", description="The wall around the sandboxes of this host.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file that the deploy renders")
    try:
        settings = config.load(parser.parse_args().config)
        Guard(settings.project, settings.egress, nftables.run, netns.run, Path("/")).raise_wall()
    except (ConfigError, HostError) as error:
        print(f"firewall: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
