"""Checks of the container engine: that it answers, how it is configured in effect, and what it has left."""

from sandboxd.cgroups import Cgroups
from sandboxd.doctor.findings import DEPLOY, Verdict, fail, ok, skip, warn
from sandboxd.doctor.readers import Readers
from sandboxd.errors import EngineError, SandboxdError

OLDEST = (20, 10)  # of which it is known that all we ask for is there
FEW_NETWORKS = 0.1  # of all
APPARMOR_PROFILES = "/sys/kernel/security/apparmor/profiles"
NEEDED_CONTROLLERS = ("cpu", "memory", "pids")


def answers(readers: Readers) -> Verdict:
    try:
        described = readers.described
    except SandboxdError as error:
        return fail(str(error), "systemctl restart docker; journalctl -u docker -n 50 (containers run on meanwhile)")
    seen = f"Docker {described.version}, API {described.api_version}"
    numbers = [int(part) for part in described.version.split(".")[:2] if part.isdecimal()]
    if tuple(numbers) < OLDEST:
        return warn(seen, f"older than {OLDEST[0]}.{OLDEST[1]}, the oldest that is tested: upgrade Debian, {DEPLOY}")
    return ok(seen)


def runtime(readers: Readers) -> Verdict:
    wanted, found = readers.config.wanted.runtime, readers.described.runtime
    if found != wanted:
        return warn(f"{found}, not {wanted}", f"{DEPLOY}; then systemctl restart docker")
    return ok(found)


def user_namespaces(readers: Readers) -> Verdict:
    uid = readers.described.userns_uid
    if not readers.config.wanted.userns_remap:
        return skip("off by the setting docker_userns_remap: root in a sandbox is root on this host")
    if uid == 0:
        return fail("root in a sandbox is root on this host", f"{DEPLOY}; then systemctl restart docker")
    return ok(f"root in a sandbox is uid {uid} on this host")


def live_restore(readers: Readers) -> Verdict:
    if not readers.described.live_restore:
        return warn("a restart of the engine would stop all sandboxes", f"{DEPLOY}; then systemctl reload docker")
    return ok("sandboxes run on while the engine restarts")


def networks(readers: Readers) -> Verdict:
    described = readers.described
    total, taken = described.networks(), described.taken(readers.engine.subnets())
    left = total - taken
    seen = f"{left} of {total} networks left; each sandbox takes one"
    remedy = "docker network prune; kill sandboxes; or set a larger docker_network_pool and deploy again"
    if left <= 0:
        return fail(seen, remedy)
    return warn(seen, remedy) if left < total * FEW_NETWORKS else ok(seen)


def cgroups(readers: Readers) -> Verdict:
    found = Cgroups(readers.effects.root).controllers()
    missing = [name for name in NEEDED_CONTROLLERS if name not in found]
    unusable = [name for name in ("memory", "cpu", "pids") if name not in readers.described.limits]
    if missing or unusable:
        seen = f"sandboxes are not limited in: {', '.join(sorted({*missing, *unusable}))}"
        return fail(seen, "boot with the kernel's default cgroups (no cgroup_disable= in /proc/cmdline)")
    versions = sorted({found[name] for name in NEEDED_CONTROLLERS})
    seen = f"{', '.join(NEEDED_CONTROLLERS)} ({' and '.join(versions)})"
    if "swap" not in readers.described.limits and len(readers.effects.text("/proc/swaps").splitlines()) > 1:
        return warn(
            f"{seen}, but swap is not limited: a sandbox may fill it",
            "swapoff -a, or boot with swapaccount=1 on the kernel's command line",
        )
    return ok(seen)


def apparmor(readers: Readers) -> Verdict:
    try:
        enabled = readers.effects.text("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    except OSError:
        enabled = False
    if not enabled:
        return skip("the kernel has no AppArmor here, as in a container")
    if not readers.described.apparmor:
        return warn("the kernel has AppArmor, and the engine does not use it", "apt install apparmor; reboot")
    wanted = {template.apparmor for template in readers.config.templates.values() if template.apparmor}
    try:
        loaded = {line.partition(" ")[0] for line in readers.effects.text(APPARMOR_PROFILES).splitlines()}
    except OSError as error:
        return warn(f"{APPARMOR_PROFILES}: {error.strerror}", "mount -t securityfs none /sys/kernel/security")
    if missing := sorted(wanted - loaded):
        return fail(f"not loaded, so no new sandbox starts: {', '.join(missing)}", DEPLOY)
    return ok(f"sandboxes are confined by {', '.join(sorted(wanted))}" if wanted else "by the engine's own profile")


def images(readers: Readers) -> Verdict:
    missing, present = [], []
    for template in readers.config.templates.values():
        try:
            readers.engine.image_id(template.image)
            present.append(template.name)
        except EngineError:
            missing.append(f"{template.image} of template {template.name}")
    if missing:
        return fail(f"not on this host: {', '.join(missing)}", f"{DEPLOY}; it builds what is missing")
    return ok(f"of all templates: {', '.join(sorted(present))}")
