"""The engine's configuration."""

from __future__ import annotations

from typing import Any

from deploys import docker
from deploys.loading import load


def test_gvisor_is_there_when_a_template_asks_for_it(data: dict[str, Any]) -> None:
    assert set(docker.daemon_options(load(data))["runtimes"]) == {"crun"}
    data["templates"] = {"base": {}, "closed": {"like": "base", "runtime": "runsc"}}
    runtimes = docker.daemon_options(load(data))["runtimes"]
    assert runtimes["runsc"] == {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=host", "--overlay2=none"]}
    data["docker_runtime"] = "runc"
    assert set(docker.daemon_options(load(data))["runtimes"]) == {"runsc"}
    del data["templates"]["closed"]
    assert "runtimes" not in docker.daemon_options(load(data))
