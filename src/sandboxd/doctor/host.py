"""Checks of the host itself: its services, disk, memory, clock and limits; and of what sandboxd keeps on it."""

import re
from collections.abc import Callable
from datetime import datetime

from sandboxd import __version__, recovery, spec
from sandboxd.backup import MARK
from sandboxd.doctor.cron import last_due
from sandboxd.doctor.findings import DEPLOY, Verdict, fail, ok, skip, warn
from sandboxd.doctor.readers import Readers

GIB = 1024**3
DISK_FULL, DISK_TIGHT = 1 * GIB, 5 * GIB  # an image takes about 1, a build some
INODES_TIGHT = 0.05  # of all
INOTIFY = {"max_user_instances": 1024, "max_user_watches": 262_144}  # a shim takes an instance, Vite many watches
FILES_TIGHT = 0.8  # of the kernel's limit of open files
MISSES_NOTED = 20  # fewer say nothing
LATE_S = 3600.0  # how long a cleanup may take, and a cron wait for its turn
RELEASES = ("12", "13")
CLEANUP = re.compile(r"docker-sandbox(-node)? cleanup")  # on a manager of a fleet, that of this host alone


def unit(name: str, unneeded: bool = False) -> Callable[[Readers], Verdict]:
    """The check of one systemd unit; `unneeded` for one that may be stopped on purpose."""

    def look(readers: Readers) -> Verdict:
        full = name.replace("PROJECT", readers.config.project)
        fields = ["ActiveState", "SubState", "UnitFileState", "NeedDaemonReload"]
        done = readers.effects.run(["systemctl", "show", full, *(f"--property={field}" for field in fields)])
        if done.code == 127:
            return skip("there is no systemd here")
        state = dict(line.split("=", 1) for line in done.text.splitlines() if "=" in line)
        if "ActiveState" not in state:
            return warn(f"systemd does not tell: {done.text.strip()}", f"systemctl status {full}")
        seen = f"{state['ActiveState']} ({state.get('SubState', '')})"
        if state["ActiveState"] not in ("active", "reloading"):
            remedy = f"systemctl restart {full}; journalctl -u {full} -n 50"
            return warn(seen, remedy) if unneeded else fail(seen, remedy)
        if state.get("UnitFileState") == "disabled":
            return warn(f"{seen}, but not started at boot", f"systemctl enable {full}")
        if state.get("NeedDaemonReload") == "yes":
            return warn(f"{seen}, but its file has changed since", f"systemctl daemon-reload; systemctl restart {full}")
        return ok(seen)

    return look


def disk_of_engine(readers: Readers) -> Verdict:
    return _disk(readers, readers.described.root_dir, "docker system df; kill sandboxes; docker builder prune")


def disk_of_state(readers: Readers) -> Verdict:
    return _disk(readers, str(readers.config.state_dir), f"du -xh --max-depth=2 {readers.config.state_dir}")


def _disk(readers: Readers, path: str, remedy: str) -> Verdict:
    space = readers.effects.space(path)
    free, size = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    seen = f"{free / GIB:.1f} of {size / GIB:.1f} GiB free at {path}"
    if free < DISK_FULL:
        return fail(seen, remedy)
    if space.f_files and space.f_favail < space.f_files * INODES_TIGHT:
        return warn(f"{seen}, but only {space.f_favail} of {space.f_files} inodes", remedy)
    return warn(seen, remedy) if free < DISK_TIGHT else ok(seen)


def memory(readers: Readers) -> Verdict:
    """Whether one more sandbox of the default template could use what it may."""
    lines = readers.effects.text("/proc/meminfo").splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if ":" in line}
    free, size = values["MemAvailable"], values["MemTotal"]
    template = readers.config.templates[readers.config.default_template]
    seen = f"{free / GIB:.1f} of {size / GIB:.1f} GiB available"
    if free < template.memory_mb * 1024**2:
        return warn(
            f"{seen}; a sandbox may use {template.memory_mb / 1024:.1f}",
            "docker-sandbox stats shows who uses it; kill sandboxes, or lower pool_size",
        )
    return ok(seen)


def clock(readers: Readers) -> Verdict:
    if readers.effects.run(["systemd-detect-virt", "--container"]).code == 0:
        return skip("a container has the clock of its machine")
    done = readers.effects.run(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if done.code != 0:
        return warn(f"timedatectl does not tell: {done.text.strip()}", "timedatectl status")
    if done.text.strip() != "yes":
        return warn("not synchronised", "systemctl status systemd-timesyncd chrony ntpsec; timedatectl set-ntp true")
    return ok("synchronised")


def limits(readers: Readers) -> Verdict:
    found = {name: int(readers.effects.text(f"/proc/sys/fs/inotify/{name}")) for name in INOTIFY}
    used, _, most = (int(word) for word in readers.effects.text("/proc/sys/fs/file-nr").split())
    small = [name for name, least in INOTIFY.items() if found[name] < least]
    seen = "inotify " + ", ".join(f"{name} {value}" for name, value in found.items()) + f"; {used} open files"
    if small:
        wanted = " ".join(f"fs.inotify.{name}={INOTIFY[name]}" for name in small)
        return warn(seen, f"sysctl -w {wanted}; to keep it, put it into the setting sysctls and deploy again")
    if used > most * FILES_TIGHT:
        return warn(f"{seen} of {most}", "who has them: lsof | awk '{print $1}' | sort | uniq -c | sort -n")
    nofile = readers.sandboxes.host.nofile
    if nofile < spec.NOFILE:
        return warn(
            f"{seen}; a sandbox may open {nofile} files, not {spec.NOFILE}",
            f"raise LimitNOFILE of docker.service and {readers.daemon_unit}, if the host allows more",
        )
    return ok(seen)


def pool(readers: Readers) -> Verdict:
    status = readers.pool.status()
    claims = status.hits + status.misses
    rate = f"; {100 * status.hits // claims}% of {claims} claims were warm" if claims else ""
    seen = f"{status.warm} of {status.size} warm{rate}"
    if not status.size:
        return skip("off by the setting pool_size: each sandbox is made when it is asked for")
    if not status.enabled:
        return warn(f"off{rate}", f"systemctl start {readers.config.project}-container-pool")
    if trouble := next((pool.trouble for pool in status.pools if pool.trouble), ""):
        return warn(f"{seen}; the last fill failed: {trouble}", f"journalctl -u {readers.daemon_unit} -n 50")
    if claims >= MISSES_NOTED and status.misses > status.hits:
        return warn(f"{seen}: most waited", "raise the setting pool_size and deploy again")
    return ok(seen)


def cleanup(readers: Readers) -> Verdict:
    """Cron's line is there, and it ran when it was due last, if this host was up and had the line by then."""
    name = f"{readers.config.project}-sandbox"
    file, log = f"/etc/cron.d/{name}-cleanup", f"/var/log/{name}-cleanup.log"
    try:
        lines = readers.effects.text(file).splitlines()
    except OSError as error:
        return fail(f"{file}: {error.strerror}", DEPLOY)
    line = next((line for line in lines if CLEANUP.search(line) and not line.startswith("#")), "")
    match = re.match(r"(@\w+|\S+(?:\s+\S+){4})\s+root\s", line)
    if not match:
        return fail(f"{file} has no line that runs docker-sandbox cleanup", DEPLOY)
    try:
        due = last_due(match[1], datetime.fromtimestamp(readers.effects.now() - LATE_S))
    except ValueError as error:
        return fail(f"{file}: {error}", DEPLOY)
    ran = readers.effects.changed_at(log)
    able = max(readers.effects.changed_at(file), _cron_since(readers))
    if due is None or due.timestamp() < able:
        return ok(f"{match[1]}; not yet due for long enough to tell")
    if ran < due.timestamp():
        when = f"{datetime.fromtimestamp(ran):%Y-%m-%d %H:%M}" if ran else "never"
        return fail(f"was due at {due:%Y-%m-%d %H:%M}, ran last: {when}", f"systemctl status cron; tail {log}")
    return ok(f"{match[1]}; ran last at {datetime.fromtimestamp(ran):%Y-%m-%d %H:%M}")


def _cron_since(readers: Readers) -> float:
    """When cron was started, in Unix seconds; 0 when nobody knows."""
    asked = "systemctl show cron.service --property=ActiveEnterTimestampMonotonic --value"
    micros = readers.effects.run(asked.split()).text.strip()
    return readers.effects.now() - (readers.effects.uptime() - int(micros) / 1e6) if micros.isdecimal() else 0.0


def ledger(readers: Readers) -> Verdict:
    faults = readers.sandboxes.ledger.faults()
    file = readers.config.ledger
    if faults:
        return fail(
            "; ".join(faults),
            f"systemctl restart {readers.daemon_unit}: it keeps the file aside and goes on with its last good copy",
        )
    if (readers.config.state_dir / MARK).exists():
        return fail("a restore was interrupted: this host is half of what it was", "run the same restore again")
    if rebuilt := recovery.told(readers.sandboxes.ledger, readers.effects.now()):
        return warn(rebuilt, "docker-sandbox list; look at what each sandbox may and until when; docs/operate.md")
    return ok(f"{file} is sound")


def health(readers: Readers) -> Verdict:
    troubles = readers.health.troubles()
    if troubles:
        seen = "; ".join(f"{source}: {trouble}" for source, trouble in sorted(troubles.items()))
        return warn(seen, f"journalctl -u {readers.daemon_unit} -n 50")
    return ok("sandboxd reports no trouble")


def versions(readers: Readers) -> Verdict:
    release = _fields(readers, f"/etc/{readers.config.project}-sandbox/release").get("revision", "unknown")
    system = _fields(readers, "/etc/os-release")
    kernel = readers.effects.text("/proc/sys/kernel/osrelease").strip()
    name = f"{system.get('ID', 'unknown')} {system.get('VERSION_ID', '')}".strip()
    seen = f"sandboxd {__version__} (revision {release}), agent {readers.agent_version}, {name}, kernel {kernel}"
    if system.get("ID") != "debian" or system.get("VERSION_ID") not in RELEASES:
        return warn(seen, f"supported are Debian {' and '.join(RELEASES)}")
    return ok(seen)


def _fields(readers: Readers, path: str) -> dict[str, str]:
    """KEY=value lines; nothing of a file that is not there."""
    try:
        lines = readers.effects.text(path).splitlines()
    except OSError:
        return {}
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}
