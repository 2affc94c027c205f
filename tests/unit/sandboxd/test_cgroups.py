"""From the kernel's files to figures, in both versions."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.cgroups import Cgroups, Gone, Mount, Usage, of_container, parse_mounts, parse_own
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.kernel import CONTAINER, PID

SHORT = CONTAINER[:12]
V1 = "sys/fs/cgroup/{}/docker/" + CONTAINER
V2 = "sys/fs/cgroup/system.slice/docker-" + CONTAINER + ".scope"
Tree = Callable[[Path], Path]


@pytest.mark.parametrize(("tree", "cpu_ns"), [(kernel.v1, 82_595_949), (kernel.v2, 82_595_000)])
def test_figures_of_both_versions(tmp_path: Path, tree: Tree, cpu_ns: int) -> None:
    assert Cgroups(tree(tmp_path)).usage(PID, SHORT) == Usage(
        cpu_ns=cpu_ns,
        cpu_limit=2.0,
        memory_bytes=12_636_160 - 1_048_576,  # without the page cache that goes first
        memory_limit_bytes=2_147_483_648,
        pids=2,
        pids_limit=1024,
        oom_kills=3,
    )


def test_no_limits_in_v1(tmp_path: Path) -> None:
    root = kernel.v1(tmp_path)
    (root / V1.format("cpu,cpuacct") / "cpu.cfs_quota_us").write_text("-1\n")
    (root / V1.format("memory") / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (root / V1.format("pids") / "pids.max").write_text("max\n")
    usage = Cgroups(root).usage(PID, SHORT)
    assert (usage.cpu_limit, usage.memory_limit_bytes, usage.pids_limit) == (None, None, None)


def test_no_limits_in_v2(tmp_path: Path) -> None:
    root = kernel.v2(tmp_path)
    (root / V2 / "cpu.max").write_text("max 100000\n")
    (root / V2 / "memory.max").write_text("max\n")
    (root / V2 / "pids.max").write_text("max\n")
    usage = Cgroups(root).usage(PID, SHORT)
    assert (usage.cpu_limit, usage.memory_limit_bytes, usage.pids_limit) == (None, None, None)


@pytest.mark.parametrize(("quota", "limit"), [("50000 100000", 0.5), ("150000 50000", 3.0)])
def test_a_limit_of_processors_is_quota_by_period(tmp_path: Path, quota: str, limit: float) -> None:
    root = kernel.v2(tmp_path)
    (root / V2 / "cpu.max").write_text(f"{quota}\n")
    assert Cgroups(root).usage(PID, SHORT).cpu_limit == limit


def test_more_cache_than_use_is_no_negative_figure(tmp_path: Path) -> None:
    """Both are read one after the other."""
    root = kernel.v2(tmp_path)
    (root / V2 / "memory.current").write_text("4096\n")
    assert Cgroups(root).usage(PID, SHORT).memory_bytes == 0


def test_controllers_of_v1_on_mounts_of_their_own(tmp_path: Path) -> None:
    root = kernel.v1(tmp_path)
    joined = "/sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:100 - cgroup cgroup rw,cpu,cpuacct\n"
    apart = (
        "/sys/fs/cgroup/cpu rw shared:1 - cgroup c rw,cpu\n30 1 0:30 / /sys/fs/cgroup/acct rw - cgroup c rw,cpuacct\n"
    )
    (root / "proc/self/mountinfo").write_text(kernel.MOUNTS_V1.replace(joined, apart))
    own = kernel.OWN_V1.replace("1:cpu,cpuacct:/docker/{0}", "1:cpu:/docker/{0}\n2:cpuacct:/docker/{0}")
    (root / f"proc/{PID}/cgroup").write_text(own.format(CONTAINER))
    (root / "sys/fs/cgroup/cpu,cpuacct").rename(root / "sys/fs/cgroup/cpu")
    kernel.write(root, {f"sys/fs/cgroup/acct/docker/{CONTAINER}/cpuacct.usage": "5\n"})
    assert Cgroups(root).usage(PID, SHORT).cpu_ns == 5


def test_a_host_that_has_some_controllers_in_v2(tmp_path: Path) -> None:
    """The pids controller was not mounted as v1, so that it is left to v2."""
    root = kernel.v1(tmp_path)
    mounts = "".join(line + "\n" for line in kernel.MOUNTS_V1.splitlines() if "/pids " not in line)
    (root / "proc/self/mountinfo").write_text(mounts)
    unified = root / "sys/fs/cgroup/unified"
    files = {f"docker/{CONTAINER}/pids.current": "9\n", f"docker/{CONTAINER}/pids.max": "max\n"}
    kernel.write(unified, {"cgroup.controllers": "pids\n", **files})
    cgroups = Cgroups(root)
    assert (cgroups.usage(PID, SHORT).pids, cgroups.usage(PID, SHORT).cpu_ns) == (9, 82_595_949)
    assert {name: cgroups.controllers()[name] for name in ("cpu", "memory", "pids")} == {
        "cpu": "v1",
        "memory": "v1",
        "pids": "v2",
    }


def test_a_mount_that_shows_a_part_of_the_hierarchy(tmp_path: Path) -> None:
    """As in a container without a cgroup namespace: the mount's root is the container's own cgroup."""
    root = kernel.v2(tmp_path)
    (root / "proc/self/mountinfo").write_text(kernel.MOUNTS_V2.replace("0:27 / ", "0:27 /docker/host "))
    (root / f"proc/{PID}/cgroup").write_text("0::/docker/host" + kernel.OWN_V2.format(CONTAINER)[3:])
    assert Cgroups(root).usage(PID, SHORT).pids == 2


def test_what_a_sandbox_makes_below_its_own_cgroup_counts_in(tmp_path: Path) -> None:
    root = kernel.v2(tmp_path)
    (root / f"proc/{PID}/cgroup").write_text(kernel.OWN_V2.format(CONTAINER).strip() + "/init.scope\n")
    assert Cgroups(root).usage(PID, SHORT).pids == 2


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(Gone, match="process 99 of container abc is gone"):
        Cgroups(kernel.v2(tmp_path)).usage(99, "abc")


def test_a_process_id_that_somebody_else_has_now(tmp_path: Path) -> None:
    with pytest.raises(Gone, match="is not a cgroup of container 0123456789ab"):
        Cgroups(kernel.v2(tmp_path)).usage(PID, "0123456789ab")


def test_a_cgroup_that_goes_while_it_is_read(tmp_path: Path) -> None:
    root = kernel.v2(tmp_path)
    (root / V2 / "pids.current").unlink()
    with pytest.raises(Gone):
        Cgroups(root).usage(PID, SHORT)


def test_a_host_without_a_controller(tmp_path: Path) -> None:
    root = kernel.v1(tmp_path)
    (root / "proc/self/mountinfo").write_text("")
    assert Cgroups(root).controllers() == {}
    with pytest.raises(Gone, match="no cgroup hierarchy has the controller cpu"):
        Cgroups(root).usage(PID, SHORT)


def test_controllers(tmp_path: Path) -> None:
    assert Cgroups(kernel.v2(tmp_path)).controllers()["memory"] == "v2"


def test_mounts_by_controller() -> None:
    mounts = parse_mounts(kernel.MOUNTS_V1)
    assert mounts["cpu"] == mounts["cpuacct"] == Mount("/sys/fs/cgroup/cpu,cpuacct", "/")
    assert set(mounts) == {"cpu", "cpuacct", "memory", "pids", ""}


def test_own_paths_by_controller() -> None:
    own = parse_own("4:memory:/docker/a:b\n1:cpu,cpuacct:/c\n0::/u\n")
    assert own == {"memory": "/docker/a:b", "cpu": "/c", "cpuacct": "/c", "": "/u"}


@pytest.mark.parametrize("path", [f"/docker/{CONTAINER}", f"/system.slice/docker-{CONTAINER}.scope"])
def test_the_part_that_names_the_container(path: str) -> None:
    assert of_container(path, SHORT) == of_container(f"{path}/a/b", SHORT) == path
