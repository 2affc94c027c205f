"""What the engine says of itself."""

import ipaddress
from typing import Any

import pytest

from sandboxd import description
from sandboxd.description import DEFAULT_POOLS, parse, subnets

VERSION = {"Version": "26.1.5+dfsg1", "ApiVersion": "1.45"}
INFO: dict[str, Any] = {
    "DockerRootDir": "/var/lib/docker/100000.100000",
    "DefaultRuntime": "crun",
    "LiveRestoreEnabled": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=userns"],
    "DefaultAddressPools": [{"Base": "10.200.0.0/16", "Size": 28}],
    "MemoryLimit": True,
    "SwapLimit": False,
    "CpuCfsQuota": True,
    "PidsLimit": True,
}


def test_an_engine_as_the_deploy_sets_it_up() -> None:
    found = parse(INFO, VERSION)
    assert (found.version, found.api_version, found.runtime) == ("26.1.5+dfsg1", "1.45", "crun")
    assert (found.userns_uid, found.live_restore, found.apparmor) == (100000, True, True)
    assert found.limits == {"memory", "cpu", "pids"} and found.root_dir == "/var/lib/docker/100000.100000"
    assert found.pools == ((ipaddress.ip_network("10.200.0.0/16"), 28),) and found.networks() == 4096


def test_an_engine_as_it_comes() -> None:
    found = parse({"DockerRootDir": "/var/lib/docker", "SecurityOptions": None}, {"Version": "20.10.24"})
    assert (found.userns_uid, found.live_restore, found.apparmor, found.limits) == (0, False, False, frozenset())
    assert found.pools == DEFAULT_POOLS and found.networks() == 15 + 16


MOUNTINFO = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 8:2 / /var rw,relatime shared:2 - xfs /dev/sda2 rw,attr2,prjquota
23 22 8:3 / /var/lib/other rw,relatime - ext4 /dev/sda3 rw
"""


@pytest.mark.parametrize(
    ("driver", "root", "can"),
    [
        ("overlay2", "/var/lib/docker/100000.100000", True),
        ("overlay2", "/var/lib/other/docker", False),
        ("overlay2", "/variable", False),
        ("btrfs", "/srv", True),
        ("zfs", "/srv", True),
        ("fuse-overlayfs", "/var/lib/docker", False),
    ],
)
def test_layers_are_limited_where_the_storage_driver_can(driver: str, root: str, can: bool) -> None:
    assert description.limits_layers({"Driver": driver, "DockerRootDir": root}, MOUNTINFO) is can


def test_xfs_without_project_quotas_limits_no_layers() -> None:
    mountinfo = MOUNTINFO.replace("prjquota", "noquota")
    assert not description.limits_layers({"Driver": "overlay2", "DockerRootDir": "/var/lib/docker"}, mountinfo)


@pytest.mark.parametrize(
    ("taken", "count"),
    [
        ([], 0),
        (["10.200.0.0/28", "10.200.0.16/28"], 2),
        (["10.199.0.0/24", "192.168.0.0/24"], 0),  # not out of the pool
        (["10.200.1.0/24"], 16),  # somebody asked for a larger one
        (["10.200.0.8/30"], 1),
        (["fd00::/64"], 0),
        (["10.0.0.0/8"], 0),
    ],
)
def test_networks_that_are_taken(taken: list[str], count: int) -> None:
    assert parse(INFO, VERSION).taken(taken) == count


def test_subnets_of_networks() -> None:
    networks: list[dict[str, Any]] = [
        {"Name": "bridge", "IPAM": {"Config": [{"Subnet": "10.199.0.0/24", "Gateway": "10.199.0.1"}]}},
        {"Name": "host", "IPAM": {"Config": None}},
        {"Name": "none", "IPAM": None},
        {"Name": "both", "IPAM": {"Config": [{"Subnet": "10.200.0.0/28"}, {"Subnet": "fd00::/64"}, {}]}},
    ]
    assert subnets(networks) == ["10.199.0.0/24", "10.200.0.0/28", "fd00::/64"]


@pytest.mark.parametrize(
    ("info", "uid"),
    [
        (
            {"SecurityOptions": ["name=seccomp", "name=userns"], "DockerRootDir": "/var/lib/docker/165536.165536"},
            165536,
        ),
        ({"SecurityOptions": ["name=seccomp"], "DockerRootDir": "/var/lib/docker"}, 0),
        ({"SecurityOptions": None, "DockerRootDir": "/data/5.5"}, 0),
    ],
)
def test_the_uid_that_is_root_inside(info: dict[str, Any], uid: int) -> None:
    assert description.base_uid(info) == uid
