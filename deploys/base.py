"""Packages that everything else needs, kernel parameters, security updates and time."""

from pyinfra.api import deploy
from pyinfra.operations import files, systemd

from deploys.operations import packages, place, when
from deploys.preflight import settings
from deploys.settings import Settings

PACKAGES = [
    "ca-certificates",
    "cron",
    "curl",
    "debian-archive-keyring",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "logrotate",
    "mmdebstrap",
    "mount",
    "nftables",
    "openssl",
    "python3",
    "python3-venv",
    "sudo",
    "util-linux",
]
# Any of these keeps the clock; installing another would remove it.
TIME_DAEMONS = ["chrony", "ntpsec", "openntpd", "systemd-timesyncd"]
# There once its module is loaded, as Docker does later.
CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_max"


@deploy("Base")
def system() -> None:
    """A Debian host that updates itself, knows the time, and has room for many containers."""
    wanted = settings()
    upgrades = ["unattended-upgrades"] if wanted.unattended_upgrades else []
    packages("base packages", PACKAGES + upgrades)

    # Before anything makes it with a stricter umask: docker-sandbox reads its configuration there, as any user.
    files.directory(name=f"Make {wanted.etc}", path=wanted.etc, user="root", group="root", mode="755")
    _kernel(wanted)

    if wanted.unattended_upgrades:
        place("etc/apt/apt.conf.d/20auto-upgrades", wanted)
        place("etc/apt/apt.conf.d/52unattended-upgrades-project-sandbox", wanted)

    states = f"dpkg-query -W -f '${{db:Status-Status}}\\n' {' '.join(TIME_DAEMONS)}"
    when(
        name="Keep the clock",
        condition=f"{states} | grep -qx installed || echo none",
        commands=["DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends systemd-timesyncd"],
    )
    systemd.service(name="Start cron", service="cron.service", running=True, enabled=True)


def _kernel(wanted: Settings) -> None:
    """Kernel parameters. One that this kernel does not have is none to it: doctor names those."""
    if any(key.startswith("net.netfilter.nf_conntrack_") for key in wanted.sysctls):
        place("etc/modules-load.d/project-sandbox.conf", wanted)
        when(
            name="Load connection tracking",
            condition=f"[ -e {CONNTRACK} ] || ! modprobe --dry-run --quiet nf_conntrack || echo absent",
            commands=["modprobe nf_conntrack"],
        )
    place("etc/sysctl.d/60-project-sandbox.conf", wanted)
    file = f"/etc/sysctl.d/60-{wanted.name}.conf"
    differs = "; ".join(
        f'[ "$(sysctl -n {key} || echo {value})" = "{value}" ] || echo {key}' for key, value in wanted.sysctls.items()
    )
    when(name="Apply kernel parameters", condition=differs or "true", commands=[f"sysctl -q --ignore --load {file}"])
