"""Names, labels and payloads of a sandbox."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxd import spec
from sandboxd.config import Template

BASE = Template("base", "acme-sandbox:1", 2048, 1.5, 1024, 10240, 10240)
DISK = Path("/state/mounts/s")
SLOT = "0123456789ab"
# What Docker 20.10 to 28 mask when nothing is said; a list of one's own replaces theirs.
DOCKERS_MASKS = {
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug")),
    *(f"/proc/{name}" for name in ("scsi", "timer_list", "timer_stats")),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
}


@pytest.mark.parametrize(
    ("project", "path"), [("acme", "/acme.slice/acme-build.slice"), ("a-b", "/a.slice/a-b.slice/a-b-build.slice")]
)
def test_where_systemd_puts_the_slice_of_builds(project: str, path: str) -> None:
    assert spec.build_cgroup(project) == path


def test_names() -> None:
    assert spec.network_name("acme", SLOT) == f"acme-net-{SLOT}"
    assert spec.volume_name("acme", SLOT) == f"acme-code-{SLOT}"
    assert spec.pool_name("acme", "id") == "acme-pool-id"
    assert spec.claimed_name("acme", 1_800_000_000.25) == "acme-qa-20270115-080000-250"
    assert spec.bridge_name(SLOT) == f"sb-{SLOT}" and len(spec.bridge_name(SLOT)) == 15


def test_a_network_of_its_own() -> None:
    payload = spec.network_payload("acme", SLOT, "base")
    assert payload["Name"] == f"acme-net-{SLOT}" and payload["Driver"] == "bridge" and not payload["EnableIPv6"]
    assert payload["Labels"] == {"sandbox.project": "acme", "sandbox.slot": SLOT, "sandbox.template": "base"}


def test_limits_and_walls() -> None:
    payload = spec.container_payload("acme", SLOT, BASE, Path("/state/slot"), DISK, nofile=4096)
    host = payload["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 2048 * 1024 * 1024
    assert (host["CpuQuota"] / host["CpuPeriod"], host["PidsLimit"], host["Init"]) == (1.5, 1024, True)
    assert host["CapDrop"] == ["ALL"]
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "MKNOD", "SYS_PTRACE"} & set(host["CapAdd"])
    assert host["NetworkMode"] == f"acme-net-{SLOT}"
    assert host["RestartPolicy"] == {"Name": "no"}
    assert {"Name": "nofile", "Soft": 4096, "Hard": 4096} in host["Ulimits"]
    assert set(host["MaskedPaths"]) >= DOCKERS_MASKS
    assert "Privileged" not in host and "PidMode" not in host and "Runtime" not in host


def test_mounts_and_labels() -> None:
    payload = spec.container_payload("acme", SLOT, BASE, Path("/state/slot"), DISK, nofile=1)
    code, slot = payload["HostConfig"]["Mounts"]
    assert (code["Type"], code["Source"], code["Target"]) == ("bind", "/state/mounts/s", "/code")
    assert (slot["Source"], slot["Target"], slot["ReadOnly"]) == ("/state/slot", "/run/sandbox", True)
    assert payload["Labels"]["sandbox.image"] == "acme-sandbox:1"
    assert "Env" not in payload, "secrets and variables go through the agent's file"


def test_volumes_are_mounted_beside_the_disk() -> None:
    volumes = [(Path("/state/mounts/vol-1"), "/mnt/data")]
    payload = spec.container_payload("acme", SLOT, BASE, Path("/s"), DISK, 1, volumes=volumes)
    *_, volume = payload["HostConfig"]["Mounts"]
    assert volume == {"Type": "bind", "Source": "/state/mounts/vol-1", "Target": "/mnt/data"}


def test_profiles_and_runtime_of_a_template() -> None:
    template = Template("base", "i", 1024, 1, 64, 512, 512, apparmor="sandbox", runtime="runsc")
    host = spec.container_payload("acme", SLOT, template, Path("/s"), DISK, 1, seccomp_json="{}")["HostConfig"]
    assert host["SecurityOpt"] == ["seccomp={}", "apparmor=sandbox"] and host["Runtime"] == "runsc"


def test_a_limit_of_the_layer_that_the_engine_keeps() -> None:
    host = spec.container_payload("acme", SLOT, BASE, Path("/s"), DISK, 1, layer_limit=True)["HostConfig"]
    assert host["StorageOpt"] == {"size": f"{BASE.layer_mb}m"}


def test_the_whole_payload() -> None:
    """What a sandbox may do is decided here: a change must be seen, line by line."""
    own = {"sandbox.project": "acme", "sandbox.slot": SLOT, "sandbox.template": "base"}
    capabilities = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT"
    payload = spec.container_payload("acme", SLOT, BASE, Path("/state/sandboxes/s"), DISK, nofile=4096)
    assert payload == {
        "Image": "acme-sandbox:1",
        "Hostname": "sandbox",
        "Labels": {**own, "sandbox.image": "acme-sandbox:1", "sandbox.walls": spec.walls(payload["HostConfig"], [])},
        "HostConfig": {
            "NetworkMode": f"acme-net-{SLOT}",
            "RestartPolicy": {"Name": "no"},
            "Init": True,
            "Memory": 2147483648,
            "MemorySwap": 2147483648,
            "OomScoreAdj": 500,
            "CpuPeriod": 100000,
            "CpuQuota": 150000,
            "PidsLimit": 1024,
            "CapDrop": ["ALL"],
            "CapAdd": capabilities.split(),
            "SecurityOpt": [],
            "MaskedPaths": list(spec.MASKED_PATHS),
            "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "Sysctls": {
                "net.ipv4.ping_group_range": "0 65535",
                "net.ipv4.conf.all.route_localnet": "1",
                "net.ipv6.conf.all.disable_ipv6": "1",
            },
            "Ulimits": [
                {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                {"Name": "memlock", "Soft": 8388608, "Hard": 8388608},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "2", "compress": "false"}},
            "Mounts": [
                {"Type": "bind", "Source": "/state/mounts/s", "Target": "/code"},
                {"Type": "bind", "Source": "/state/sandboxes/s", "Target": "/run/sandbox", "ReadOnly": True},
            ],
        },
    }


def test_payloads_share_nothing_that_one_could_change_for_all() -> None:
    first, second = (spec.container_payload("acme", SLOT, BASE, Path("/s"), DISK, 1) for _ in range(2))
    first["HostConfig"]["CapAdd"].append("SYS_ADMIN")
    first["HostConfig"]["Sysctls"]["x"] = "1"
    assert second == spec.container_payload("acme", SLOT, BASE, Path("/s"), DISK, 1)


def test_names_of_claims_sort_by_time() -> None:
    moments = [1_800_000_000 + step / 1000 for step in (0, 1, 999, 1000, 61_000, 86_400_000)]
    names = [spec.claimed_name("acme", moment) for moment in moments]
    assert names == sorted(names) and len(set(names)) == len(names)


def test_a_container_asks_the_name_servers_that_it_is_told() -> None:
    host = spec.container_payload("acme", SLOT, BASE, Path("/s"), DISK, 1, name_servers=["192.0.2.53"])["HostConfig"]
    assert host["Dns"] == ["192.0.2.53"]


def test_walls_are_the_templates_and_not_the_slots() -> None:
    def walls(slot: str, template: Template, **given: Any) -> str:
        payload = spec.container_payload("acme", slot, template, Path(f"/{slot}"), Path("/d"), 1, **given)
        return str(payload["Labels"]["sandbox.walls"])

    same = [walls("a", BASE), walls("b", BASE, name_servers=["192.0.2.53"], volumes=[(Path("/v"), "/mnt")])]
    assert len(set(same)) == 1
    others = [walls("a", replace(BASE, memory_mb=1)), walls("a", BASE, seccomp_json="{}"), walls("a", BASE, memlock=1)]
    others.append(walls("a", BASE, found_servers=["192.0.2.53"]))
    assert len({*same, *others}) == 5
