"""`docker compose`: one sandbox on a workstation, with the image, the limits and the volume that a host gives it."""

import json

import pytest

from deploys import ROOT
from deploys.images import Tags, archive, context
from tests.host.machine import Machine, eventually

# Debian 12 has only the Compose of 2021, which knows no BuildKit.
pytestmark = [pytest.mark.disruptive, pytest.mark.suite("trixie")]
DIRECTORY = "/tmp/compose"


def test_a_sandbox_by_compose(machine: Machine) -> None:
    tags = Tags(machine.settings)
    machine.run("apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq docker-compose")
    machine.run(f"mkdir -p {DIRECTORY}")
    files = context("sandbox", tags.certificates)
    files["docker-compose.yml"] = ((ROOT / "docker-compose.yml").read_bytes(), False)
    machine.run(f"tar -xf - -C {DIRECTORY}", stdin=archive(files))
    compose = f"cd {DIRECTORY} && BASE={tags.base} docker compose --progress quiet"
    try:
        machine.run(f"{compose} up --build --detach")
        container = machine.out(f"{compose} ps --quiet")
        found = json.loads(machine.out(f"docker inspect {container}"))[0]
        limits = found["HostConfig"]
        wanted = machine.settings
        assert limits["Memory"] == limits["MemorySwap"] == wanted.sandbox_memory_mb * 1024 * 1024
        assert (limits["NanoCpus"], limits["PidsLimit"]) == (wanted.sandbox_cpus * 1e9, wanted.sandbox_pids)
        assert limits["Init"] and [mount["Destination"] for mount in found["Mounts"]] == ["/code"]
        ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:49983"
        eventually(lambda: machine.out(f"{ask}/health"), lambda code: code == "204", 30, "agent")
        read = f"{ask}/files?path=/etc/hostname"
        assert machine.out(read) == "401"
        assert machine.out(f"{read} -H 'X-Access-Token: local-development'") == "200"
        assert machine.out(f"docker exec --user user {container} sh -c 'touch /code/file && sudo id -un'") == "root"
    finally:
        machine.run(
            f"{compose} down --volumes; docker image rm flourisha-sandbox:local; rm -r {DIRECTORY}", check=False
        )
