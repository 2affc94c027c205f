"""The recommendations of the CIS Docker Benchmark that hold, each under its number: tools/cis.toml has the list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from deploys import ROOT, confinement
from deploys.settings import RUNSC
from sandboxd.spec import CAPABILITIES
from tests.host.machine import Machine, Sandbox

SYSTEM = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
# Of what may be absent: number -> (path, what is looked at, what it may be).
FILES = {
    "3.1": ("/usr/lib/systemd/system/docker.service", "owner", "root:root"),
    "3.2": ("/usr/lib/systemd/system/docker.service", "mode", "644"),
    "3.3": ("/usr/lib/systemd/system/docker.socket", "owner", "root:root"),
    "3.4": ("/usr/lib/systemd/system/docker.socket", "mode", "644"),
    "3.5": ("/etc/docker", "owner", "root:root"),
    "3.6": ("/etc/docker", "mode", "755"),
    "3.7": ("/etc/docker/certs.d", "owner", "root:root"),
    "3.8": ("/etc/docker/certs.d", "mode", "755"),
    "3.17": ("/etc/docker/daemon.json", "owner", "root:root"),
    "3.18": ("/etc/docker/daemon.json", "mode", "644"),
    "3.19": ("/etc/default/docker", "owner", "root:root"),
    "3.20": ("/etc/default/docker", "mode", "644"),
    "3.21": ("/etc/sysconfig/docker", "mode", "644"),
    "3.22": ("/etc/sysconfig/docker", "owner", "root:root"),
    "3.23": ("/run/containerd/containerd.sock", "owner", "root:root"),
    "3.24": ("/run/containerd/containerd.sock", "mode", "660"),
}
ENGINE = (
    "systemctl show docker --property MainPID --value"  # in a fleet there is a second dockerd, which is no sandbox's
)
Containers = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def info(machine: Machine) -> dict[str, Any]:
    """`docker info`: what is in effect."""
    return dict(json.loads(machine.out("docker info --format '{{json .}}'")))


@pytest.fixture(scope="module")
def options(machine: Machine) -> dict[str, Any]:
    """daemon.json; and no option is given on the command line, where it would count more."""
    words = machine.out(f"tr '\\0' ' ' </proc/$({ENGINE})/cmdline").split()
    assert [word for word in words[1:] if word.startswith("-")] in (
        ["-H", "--containerd=/run/containerd/containerd.sock"],
        ["-H"],
    )
    return dict(json.loads(machine.out("cat /etc/docker/daemon.json")))


@pytest.fixture(scope="module")
def used(machine: Machine) -> Iterator[list[Sandbox]]:
    """A sandbox for each kind of walls: the plain ones, those with a browser, those in gVisor."""
    names = {(confinement.kind(one), one.runtime): name for name, one in reversed(machine.settings.templates.items())}
    with ExitStack() as stack:
        yield [stack.enter_context(machine.sandbox(f"--template {name} --timeout 30m")) for name in names.values()]


@pytest.fixture(scope="module")
def ours(machine: Machine, used: list[Sandbox]) -> Containers:
    """`docker inspect` of these and of Traefik, by name. Others may be gone before they are looked at."""
    found = json.loads(machine.out(f"docker inspect {' '.join(sandbox.id for sandbox in used)} traefik"))
    return {one["Name"].removeprefix("/"): one for one in found}


@pytest.fixture(scope="module")
def sandboxes(ours: Containers) -> Containers:
    found = {name: one for name, one in ours.items() if name != "traefik"}
    assert found
    return found


def in_gvisor(container: dict[str, Any]) -> bool:
    return bool(container["HostConfig"]["Runtime"] == RUNSC)


def host_config(containers: Containers, key: str) -> dict[str, Any]:
    return {name: one["HostConfig"][key] for name, one in containers.items()}


def stat(machine: Machine, path: str) -> dict[str, str]:
    """Owner and mode; nothing of a path that is not there."""
    words = machine.out(f"stat -L -c '%U:%G %a' {path} 2>/dev/null || true").split()
    return dict(zip(("owner", "mode"), words, strict=False))


# --- 1: the host -----------------------------------------------------------------------------------------------------


def test_1_1_2_nobody_but_root_controls_the_engine(machine: Machine) -> None:
    owner, mode = ("root:docker", "660") if machine.settings.docker_group else ("root:root", "600")
    assert stat(machine, "/run/docker.sock") == {"owner": owner, "mode": mode}
    gid, members = machine.out("getent group docker").split(":")[2:4]
    assert members == ""
    assert machine.out(f"getent passwd | awk -F: '$4 == {gid}'") == ""


# --- 2: the daemon ---------------------------------------------------------------------------------------------------


def test_2_2_the_default_bridge_keeps_containers_apart(machine: Machine) -> None:
    bridge = json.loads(machine.out("docker network inspect bridge"))[0]
    assert bridge["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert bridge["Containers"] == {}


def test_2_3_it_logs_at_info(options: dict[str, Any]) -> None:
    assert options.get("log-level", "info") == "info" and not options.get("debug")


def test_2_4_it_writes_packet_rules(options: dict[str, Any]) -> None:
    assert options.get("iptables", True) is True


def test_2_5_no_registry_without_tls(info: dict[str, Any]) -> None:
    registries = info["RegistryConfig"]
    assert set(registries["InsecureRegistryCIDRs"]) <= {"127.0.0.0/8", "::1/128"}
    assert all(index["Secure"] for index in registries["IndexConfigs"].values())


def test_2_6_not_aufs(info: dict[str, Any]) -> None:
    assert info["Driver"] != "aufs"


def test_2_7_it_listens_on_no_port(machine: Machine, options: dict[str, Any]) -> None:
    assert "hosts" not in options and not any(key.startswith("tls") for key in options)
    assert machine.out(f"ss -Hltnp | grep pid=$({ENGINE}), || true") == ""


def test_2_8_each_sandbox_has_ulimits(sandboxes: Containers) -> None:
    for limits in host_config(sandboxes, "Ulimits").values():
        assert {limit["Name"] for limit in limits} >= {"nofile", "memlock", "core"}


def test_2_9_user_namespaces(machine: Machine, info: dict[str, Any]) -> None:
    on = any("name=userns" in option for option in info["SecurityOptions"])
    assert on == machine.settings.docker_userns_remap


def test_2_10_the_parent_of_cgroups_is_the_default(options: dict[str, Any]) -> None:
    assert "cgroup-parent" not in options


def test_2_11_no_storage_options(options: dict[str, Any]) -> None:
    assert "storage-opts" not in options


def test_2_15_live_restore(info: dict[str, Any]) -> None:
    assert info["LiveRestoreEnabled"] is True


def test_2_16_no_userland_proxy(machine: Machine, options: dict[str, Any]) -> None:
    assert options["userland-proxy"] is False
    assert machine.out("pgrep -x docker-proxy || true") == ""


def test_2_17_the_engines_own_seccomp_profile(info: dict[str, Any], options: dict[str, Any]) -> None:
    (found,) = [option for option in info["SecurityOptions"] if option.startswith("name=seccomp")]
    assert found in ("name=seccomp,profile=default", "name=seccomp,profile=builtin")
    assert "seccomp-profile" not in options


def test_2_18_nothing_experimental(info: dict[str, Any]) -> None:
    assert info["ExperimentalBuild"] is False


# --- 3: files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", FILES)
def test_files(machine: Machine, number: str) -> None:
    path, what, wanted = FILES[number]
    found = stat(machine, path).get(what, wanted)
    if what == "owner":
        assert found == wanted, path
    else:
        assert int(found, 8) & ~int(wanted, 8) == 0, f"{path} is {found}"


def test_3_15_the_socket_is_roots(machine: Machine) -> None:
    assert stat(machine, "/run/docker.sock")["owner"] in ("root:root", "root:docker")


def test_3_16_the_socket_is_closed(machine: Machine) -> None:
    assert stat(machine, "/run/docker.sock")["mode"] in ("600", "660")


# --- 4: images -------------------------------------------------------------------------------------------------------


def instructions() -> dict[str, str]:
    """Our Dockerfiles, with continued lines in one."""
    files = sorted((ROOT / "files/images").glob("**/*Dockerfile*"))
    assert files
    return {str(file.relative_to(ROOT)): file.read_text().replace("\\\n", " ") for file in files}


def test_4_1_commands_run_as_a_user(machine: Machine, used: list[Sandbox]) -> None:
    for sandbox in used:
        assert sandbox.out("id -un") == "user"
        pid = sandbox.inspect()["State"]["Pid"]
        outside = machine.out(f"awk '/^Uid:/ {{print $2}}' /proc/{pid}/status")
        assert (outside != "0") == machine.settings.docker_userns_remap, sandbox.id


def test_4_7_what_updates_lists_installs() -> None:
    for file, text in instructions().items():
        for line in re.findall(r"^RUN .*apt-get.* update\b.*$", text, re.MULTILINE):
            assert "install" in line, f"{file}: {line}"


def test_4_9_no_add() -> None:
    assert [file for file, text in instructions().items() if re.search(r"^ADD ", text, re.MULTILINE)] == []


def test_4_10_no_secrets_in_images(machine: Machine) -> None:
    tags = machine.out(f"docker image ls -q {machine.project}-* | sort -u").split()
    for image in json.loads(machine.out(f"docker image inspect {' '.join(tags)}")):
        names = [variable.partition("=")[0] for variable in image["Config"]["Env"] or []]
        assert [name for name in names if re.search("TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY", name)] == []


# --- 5: containers ---------------------------------------------------------------------------------------------------


def test_5_1_no_swarm(info: dict[str, Any]) -> None:
    assert info["Swarm"]["LocalNodeState"] == "inactive"


def test_5_2_apparmor_where_the_kernel_has_it(machine: Machine, info: dict[str, Any], ours: Containers) -> None:
    on = any("name=apparmor" in option for option in info["SecurityOptions"])
    own = {f"{machine.project}-{kind}" for kind in confinement.seccomp()}
    for name, one in ours.items():
        wanted = {"docker-default"} if name == "traefik" or in_gvisor(one) else own
        assert one["AppArmorProfile"] in (wanted if on else {""}), name
        assert "apparmor=unconfined" not in (one["HostConfig"]["SecurityOpt"] or []), name


def test_5_4_capabilities_are_a_named_list(ours: Containers) -> None:
    assert all(dropped == ["ALL"] for dropped in host_config(ours, "CapDrop").values())
    for name, added in host_config(ours, "CapAdd").items():
        allowed = CAPABILITIES if name != "traefik" else ("NET_BIND_SERVICE",)
        assert {one.removeprefix("CAP_") for one in added} <= set(allowed), name


def test_5_5_none_is_privileged(ours: Containers) -> None:
    assert not any(host_config(ours, "Privileged").values())


def test_5_6_no_directory_of_the_system(ours: Containers) -> None:
    mounts = [(name, mount) for name, one in ours.items() for mount in one["Mounts"]]
    assert [found for found in mounts if found[1]["Source"].rstrip("/") in SYSTEM or found[1]["Source"] == "/"] == []
    below_etc = [(name, mount["RW"]) for name, mount in mounts if mount["Source"].startswith("/etc/")]
    assert set(below_etc) <= {("traefik", False)}


def test_5_7_no_sshd_runs_inside(machine: Machine, sandboxes: Containers) -> None:
    for one in sandboxes.values():
        assert "sshd" not in machine.out(f"docker top {one['Id']} -eo pid,comm")


def test_5_8_no_port_of_the_host_is_mapped(ours: Containers) -> None:
    assert not any(host_config(ours, "PortBindings").values())


def test_5_9_no_port_is_published(ours: Containers) -> None:
    assert not any(host_config(ours, "PublishAllPorts").values())


def test_5_10_no_sandbox_has_the_hosts_network(sandboxes: Containers) -> None:
    assert "host" not in host_config(sandboxes, "NetworkMode").values()


def test_5_11_memory_is_limited(sandboxes: Containers) -> None:
    for one in sandboxes.values():
        limits = one["HostConfig"]
        assert limits["Memory"] > 0 and limits["MemorySwap"] == limits["Memory"] and limits["OomScoreAdj"] > 0


def test_5_12_processors_are_limited(sandboxes: Containers) -> None:
    assert all(one["HostConfig"]["CpuQuota"] > 0 for one in sandboxes.values())


def test_5_13_what_need_not_be_written_is_read_only(ours: Containers, sandboxes: Containers) -> None:
    assert ours["traefik"]["HostConfig"]["ReadonlyRootfs"] is True
    for paths in host_config(sandboxes, "ReadonlyPaths").values():
        assert set(paths) >= {"/proc/sys", "/proc/sysrq-trigger"}


def test_5_14_nothing_is_published_on_all_addresses(machine: Machine, ours: Containers) -> None:
    for one in ours.values():
        assert machine.out(f"docker port {one['Id']}") == ""


def test_5_15_the_engine_restarts_no_sandbox(sandboxes: Containers) -> None:
    assert {policy["Name"] for policy in host_config(sandboxes, "RestartPolicy").values()} <= {"no", ""}


def test_5_16_not_the_hosts_processes(ours: Containers) -> None:
    assert "host" not in host_config(ours, "PidMode").values()


def test_5_17_not_the_hosts_ipc(ours: Containers) -> None:
    assert set(host_config(ours, "IpcMode").values()) == {"private"}


def test_5_18_no_devices(ours: Containers) -> None:
    for key in ("Devices", "DeviceCgroupRules", "DeviceRequests"):
        assert not any(host_config(ours, key).values()), key


def test_5_19_ulimits_are_changed_where_needed(ours: Containers) -> None:
    for limits in host_config(ours, "Ulimits").values():
        assert {limit["Name"] for limit in limits or []} <= {"nofile", "memlock", "core"}


def test_5_20_mounts_do_not_spread(ours: Containers) -> None:
    mounts = [mount for one in ours.values() for mount in one["Mounts"]]
    assert [mount for mount in mounts if mount["Propagation"] in ("shared", "rshared")] == []


def test_5_21_not_the_hosts_name(sandboxes: Containers) -> None:
    assert "host" not in host_config(sandboxes, "UTSMode").values()


def test_5_22_seccomp_is_on(machine: Machine, ours: Containers) -> None:
    for name, one in ours.items():
        said = [word for word in one["HostConfig"]["SecurityOpt"] or [] if word.startswith("seccomp")]
        own = name != "traefik" and not in_gvisor(one)
        assert [word.startswith("seccomp={") for word in said] == ([True] if own else []), name
        assert machine.out(f"awk '/^Seccomp:/ {{print $2}}' /proc/{one['State']['Pid']}/status") == "2", name


def test_5_25_all_are_in_the_engines_cgroup(ours: Containers) -> None:
    assert set(host_config(ours, "CgroupParent").values()) == {""}


def test_5_26_no_privileges_but_by_what_is_in_the_image(
    machine: Machine, ours: Containers, sandboxes: Containers
) -> None:
    assert "no-new-privileges" in ours["traefik"]["HostConfig"]["SecurityOpt"]
    for name, one in sandboxes.items():
        writable = [mount["Source"] for mount in one["Mounts"] if mount["RW"]]
        assert writable, name
        for source in writable:
            options = machine.out(f"findmnt --noheadings --output OPTIONS --target {source}").split(",")
            assert {"nosuid", "nodev"} <= set(options), f"{name}: {source}"


def test_5_29_processes_are_limited(sandboxes: Containers) -> None:
    assert all(limit > 0 for limit in host_config(sandboxes, "PidsLimit").values())


def test_5_30_each_has_a_network_of_its_own(ours: Containers, sandboxes: Containers) -> None:
    assert not any("bridge" in one["NetworkSettings"]["Networks"] for one in ours.values())
    networks = [tuple(one["NetworkSettings"]["Networks"]) for one in sandboxes.values()]
    assert all(len(own) == 1 for own in networks) and len(set(networks)) == len(networks)


def test_5_31_no_sandbox_has_the_hosts_user_namespace(sandboxes: Containers) -> None:
    assert set(host_config(sandboxes, "UsernsMode").values()) == {""}


def test_5_32_the_socket_is_in_no_container(ours: Containers) -> None:
    sources = [mount["Source"] for one in ours.values() for mount in one["Mounts"]]
    assert [source for source in sources if "docker.sock" in source or "containerd" in source] == []
