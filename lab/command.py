"""How a lab is started, as a value: the arguments of `docker run`. Pure; docs of each flag stand beside it."""

from collections.abc import Sequence
from pathlib import Path

from lab.facts import HostFacts
from lab.settings import LABEL_DEBIAN, LABEL_NAME, LABEL_ROOT, SHARED, container_name

INIT = "/usr/lib/lab/init"


def nesting(facts: HostFacts) -> list[str]:
    """Return the flags that let systemd and a Docker engine work inside the container."""
    if not facts.missing_capabilities:
        return ["--privileged"]
    # --privileged asks for every capability by name and fails where the engine lacks one. This is the rest of it.
    return [
        "--cap-add=ALL",
        *(f"--cap-drop={name}" for name in facts.missing_capabilities),
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        # Without it no user namespace in the lab can mount /proc, and userns-remap fails.
        "--security-opt=systempaths=unconfined",
        # Loop devices and their control node.
        "--device-cgroup-rule=b 7:* rmw",
        "--device-cgroup-rule=c 10:237 rmw",
        "--device-cgroup-rule=c 10:229 rmw",  # /dev/fuse
    ]


def kernel_words(facts: HostFacts, suite: str) -> list[str]:
    """Return what systemd reads as its kernel command line. Trixie's refuses cgroup v1 unless told twice."""
    if facts.cgroup_version == 1 and suite != "bookworm":
        return ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
    return []


def fixed(address: str, network: str, resolv_conf: Path) -> list[str]:
    """Return the flags that give a lab `address` in `network`, and the name servers of the file `resolv_conf`."""
    return [f"--network={network}", f"--ip={address}", f"--volume={resolv_conf}:/etc/resolv.conf"]


def run_arguments(
    facts: HostFacts,
    *,
    name: str,
    suite: str,
    image: str,
    root: str,
    publish_https: int | None = None,
    network: Sequence[str] = (),
    share: Path | None = None,
) -> list[str]:
    """Return the arguments after `docker` that start lab `name` from `image`.

    `root` is the id of the working copy that owns it; `publish_https` a port on the workstation's loopback address;
    `network` the flags of `fixed`, without which the lab is in the engine's own network; `share` an absolute path that
    exists, without comma.
    """
    publish = [] if publish_https is None else [f"--publish=127.0.0.1:{publish_https}:443"]
    shared = [] if share is None else [f"--mount=type=bind,source={share},target={SHARED}"]
    modules = ["--volume=/lib/modules:/lib/modules:ro"] if facts.kernel_modules else []
    return [
        "run",
        "--detach",
        f"--name={container_name(name)}",
        f"--hostname={name}",
        f"--label={LABEL_NAME}={name}",
        f"--label={LABEL_ROOT}={root}",
        f"--label={LABEL_DEBIAN}={suite}",
        # systemd's signal for an orderly shutdown, which takes 0.3 s, and time for services with more to do.
        # A process that ignores SIGTERM (PID 1 of a container without --init, with live-restore) uses all of it.
        "--stop-signal=SIGRTMIN+3",
        "--stop-timeout=20",
        *nesting(facts),
        "--cgroupns=private",
        "--env=container=docker",
        "--tmpfs=/run",
        "--tmpfs=/run/lock",
        # Docker's default is noexec, which a server's /tmp is not.
        "--tmpfs=/tmp:exec,mode=1777",
        # systemd tells of its boot on the console, and only if that is a terminal: `docker logs` has it.
        "--tty",
        # An overlay file system cannot lie on another one, and these hold overlays, whichever image store is in use.
        # The labels are for the day when someone removes the container by hand, and leaves them.
        *(
            f"--mount=type=volume,target={path},volume-label={LABEL_NAME}={name},volume-label={LABEL_ROOT}={root}"
            for path in ("/var/lib/docker", "/var/lib/containerd")
        ),
        *modules,
        *shared,
        *publish,
        *network,
        f"--entrypoint={INIT}",
        image,
        *kernel_words(facts, suite),
    ]
