"""What the fleet engine shares with the host's own, and what it must not."""

from __future__ import annotations

import json
import re
from typing import Any

from deploys import ROOT, docker, fleetengine
from deploys.loading import load


def test_nothing_of_a_machine_is_shared_with_the_other_engine(data: dict[str, Any]) -> None:
    options = fleetengine.engine_options(load(data), "a")
    own = [options[key] for key in ("data-root", "exec-root", "pidfile", "containerd-namespace", "bridge")]
    assert own == [
        "/var/lib/flourisha-swarmd",
        "/run/flourisha-swarmd",
        "/run/flourisha-swarmd.pid",
        "flourisha-swarmd",
        "flt0",
    ]
    assert options["hosts"] == ["unix:///run/flourisha-swarmd.sock"] and options["labels"] == ["sandbox.node=a"]
    assert options["iptables"] is False and "live-restore" not in options, "Swarm mode refuses it"
    assert "default-address-pools" not in options, "with it Docker would remove docker0 at each start"
    json.dumps(options)


def test_it_uses_the_same_runtime(data: dict[str, Any]) -> None:
    for runtime in ("crun", "runc"):
        wanted = load({**data, "docker_runtime": runtime})
        ours, others = fleetengine.engine_options(wanted, "a"), docker.daemon_options(wanted)
        assert ours["default-runtime"] == others["default-runtime"] == runtime
        assert ours.get("runtimes", {}).get(runtime) == others.get("runtimes", {}).get(runtime)


def test_the_image_of_a_lease_is_named_by_its_recipe(data: dict[str, Any]) -> None:
    wanted = load(data)
    assert re.fullmatch(r"flourisha-lease:trixie-[0-9a-f]{12}", fleetengine.lease_image(wanted, "trixie"))
    assert fleetengine.lease_image(wanted, "trixie") != fleetengine.lease_image(wanted, "bookworm")
    assert (ROOT / fleetengine.RECIPE).stat().st_mode & 0o100
