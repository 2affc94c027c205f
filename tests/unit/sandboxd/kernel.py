"""The kernel's files of a sandbox in a directory: /proc and /sys as they were on real hosts, with cgroups v1 and v2."""

from pathlib import Path

CONTAINER = "732f72384bb99f5be31ce6229e29eb95a8ef1d3029acb444c523d86fb885eda1"
PID = 4711

MOUNTS_V1 = """\
226 1 0:75 / / rw,relatime shared:95 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
233 226 0:75 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:99 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
234 233 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:100 - cgroup cgroup rw,cpu,cpuacct
237 233 0:32 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:103 - cgroup cgroup rw,memory
241 233 0:36 / /sys/fs/cgroup/pids rw,nosuid,nodev,noexec,relatime shared:107 - cgroup cgroup rw,pids
242 233 0:37 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:108 - cgroup systemd rw,name=systemd
113 233 0:38 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:121 - cgroup2 cgroup2 rw
"""
MOUNTS_V2 = """\
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
31 23 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
OWN_V1 = """\
9:name=systemd:/docker/{0}
8:pids:/docker/{0}
4:memory:/docker/{0}
1:cpu,cpuacct:/docker/{0}
0::/docker/{0}
"""
OWN_V2 = "0::/system.slice/docker-{0}.scope\n"
MEMORY_STAT_V1 = """\
cache 12288
rss 11960320
inactive_file 4096
active_file 12288
hierarchical_memory_limit 2147483648
total_cache 12288
total_rss 11960320
total_inactive_file 1048576
total_active_file 12288
"""
MEMORY_STAT_V2 = """\
anon 11960320
file 2252800
kernel 1036288
inactive_anon 11948032
inactive_file 1048576
active_file 12288
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    9000      90    0    0    0     0          0         0     9000      90    0    0    0     0       0          0
  eth0:    2388      32    0    0    0     0          0         0     1998      27    0    0    0     0       0          0
"""  # noqa: E501
V1 = {
    "cpu,cpuacct/docker/{0}/cpu.cfs_quota_us": "200000\n",
    "cpu,cpuacct/docker/{0}/cpu.cfs_period_us": "100000\n",
    "cpu,cpuacct/docker/{0}/cpuacct.usage": "82595949\n",
    "memory/docker/{0}/memory.usage_in_bytes": "12636160\n",
    "memory/docker/{0}/memory.limit_in_bytes": "2147483648\n",
    "memory/docker/{0}/memory.stat": MEMORY_STAT_V1,
    "memory/docker/{0}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "pids/docker/{0}/pids.current": "2\n",
    "pids/docker/{0}/pids.max": "1024\n",
}
V2 = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
    "system.slice/docker-{0}.scope/cpu.stat": "usage_usec 82595\nuser_usec 60000\nsystem_usec 22595\nnr_periods 7\n",
    "system.slice/docker-{0}.scope/cpu.max": "200000 100000\n",
    "system.slice/docker-{0}.scope/memory.current": "12636160\n",
    "system.slice/docker-{0}.scope/memory.max": "2147483648\n",
    "system.slice/docker-{0}.scope/memory.stat": MEMORY_STAT_V2,
    "system.slice/docker-{0}.scope/memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 3\noom_group_kill 0\n",
    "system.slice/docker-{0}.scope/pids.current": "2\n",
    "system.slice/docker-{0}.scope/pids.max": "1024\n",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def v1(root: Path, container: str = CONTAINER, pid: int = PID) -> Path:
    """A host of v1 controllers beside an empty v2 hierarchy, with one container. Returns the root."""
    return _tree(root, MOUNTS_V1, OWN_V1, V1, container, pid)


def v2(root: Path, container: str = CONTAINER, pid: int = PID) -> Path:
    """A host of v2 alone, as Debian is, with Docker's cgroups made by systemd."""
    return _tree(root, MOUNTS_V2, OWN_V2, V2, container, pid)


def _tree(root: Path, mounts: str, own: str, cgroups: dict[str, str], container: str, pid: int) -> Path:
    write(root, {"proc/self/mountinfo": mounts, f"proc/{pid}/cgroup": own.format(container)})
    write(root, {f"proc/{pid}/net/dev": NET_DEV, f"proc/{pid}/status": "Name:\tinit\nUid:\t100000\t100000\t1\t1\n"})
    write(root / "sys/fs/cgroup", {name.format(container): text for name, text in cgroups.items()})
    return root
