"""The probe: one sandbox, made cold, used on every part of the way, and removed; each step is a check.

Whatever happens in between, `close` removes it. Should the daemon die first, its timeout ends it.
"""

import secrets
import time

from sandboxd.cgroups import Cgroups, Gone
from sandboxd.config import RUNSC, Template
from sandboxd.doctor.agent import Execute
from sandboxd.doctor.effects import Answer
from sandboxd.doctor.findings import DEPLOY, Check, Verdict, fail, ok
from sandboxd.doctor.readers import Readers
from sandboxd.errors import SandboxdError
from sandboxd.records import Claim, Sandbox

NAME = "doctor"
LIFE_S = 600.0
URL_S = 15.0
POLL_S = 0.1
CPU_DIFFERENCE = 0.01  # the kernel keeps whole microseconds of a period


class Probe:
    """`execute` is from `agent.through_gateway`."""

    def __init__(self, readers: Readers, execute: Execute) -> None:
        self._readers, self._execute = readers, execute
        self._sandboxes = readers.sandboxes
        self._row: Sandbox | None = None
        self._pid = 0

    def checks(self, needs: tuple[str, ...]) -> list[Check]:
        """The steps, in order; the first one needs `needs`."""
        return [
            Check("probe-made", self.made, needs),
            Check("probe-command", self.command, ("probe-made",)),
            Check("probe-limits", self.limits, ("probe-made",)),
            Check("probe-url", self.url, ("probe-command",)),
            Check("probe-removed", self.removed, ("probe-made",)),
            *([Check("probe-gvisor", self.gvisor, ("probe-removed",))] if self._in_gvisor() else ()),
        ]

    def close(self) -> None:
        """Removes the sandbox, unless it was. What cannot be removed now is by its timeout."""
        row, self._row = self._row, None
        if row is not None:
            self._sandboxes.try_remove(row, "probe of doctor", ("running",))

    def made(self, readers: Readers) -> Verdict:
        template = readers.config.templates[readers.config.default_template]
        began = time.monotonic()
        self._row = self._sandboxes.create(template, Claim(timeout_s=LIFE_S, name=NAME))
        return ok(f"{self._row.id} of template {template.name} in {time.monotonic() - began:.1f} s")

    def command(self, readers: Readers) -> Verdict:
        began = time.monotonic()
        if not self._execute(self._sandbox(), "true", False):
            return fail("`true` does not end with 0", f"{DEPLOY}; it builds the image anew if that is outdated")
        return ok(f"`true` by the agent, through the gateway, in {1000 * (time.monotonic() - began):.0f} ms")

    def limits(self, readers: Readers) -> Verdict:
        """As the kernel holds them, against what the template says."""
        row = self._sandbox()
        template, container = readers.config.templates[row.template], readers.engine.container(row.docker)
        remedy = f"docker inspect of a sandbox shows what was asked for; check the engine, then {DEPLOY}"
        try:
            self._pid = container.pid if container is not None else 0
            usage = Cgroups(readers.effects.root).usage(self._pid, row.docker)
            uid = int(_field(readers.effects.text(f"/proc/{self._pid}/status"), "Uid").split()[0])
        except (Gone, OSError) as error:
            return fail(f"cannot be read: {error}", remedy)
        wrong = differences(template, usage.memory_limit_bytes, usage.cpu_limit, usage.pids_limit)
        if readers.config.wanted.userns_remap and uid == 0:
            wrong.append("its root is root on this host")
        if wrong:
            return fail("; ".join(wrong), remedy)
        return ok(f"{template.memory_mb} MB, {template.cpus:g} CPUs, {template.pids} processes, uid {uid} for its root")

    def url(self, readers: Readers) -> Verdict:
        """A page of a server on the sandbox's own 127.0.0.1, through Traefik by its name, as a browser asks for it."""
        row, word = self._sandbox(), secrets.token_hex(8)
        directory, port = f"/tmp/{word}", readers.config.default_port
        serve = f"exec python3 -m http.server {port} --bind 127.0.0.1 --directory {directory} >/dev/null 2>&1"
        self._execute(row, f"mkdir {directory} && echo {word} >{directory}/index.html && {serve}", True)
        host = readers.config.url(row.id).removeprefix("https://")
        began, seen = time.monotonic(), "no answer"
        while time.monotonic() < began + URL_S:
            try:
                answer = readers.effects.fetch(readers.effects.edge, host, True)
            except OSError as error:
                seen = str(error)
            else:
                if answer.status == 200 and word.encode() in answer.body:
                    return ok(f"https://{host} answers through {readers.effects.edge[0]}:{readers.effects.edge[1]}")
                seen = _shown(answer)
            time.sleep(POLL_S)
        return fail(f"https://{host}: {seen}", "docker logs --tail 20 traefik; docker-sandbox routes status")

    def removed(self, readers: Readers) -> Verdict:
        row = self._sandbox()
        remedy = f"docker-sandbox kill {row.id}; journalctl -u {readers.daemon_unit} -n 50"
        try:
            self._sandboxes.remove(row, "probe of doctor", ("running",))
        except SandboxdError as error:
            return fail(str(error), remedy)
        self._row = None
        found = readers.engine.inventory(readers.config.project)
        left = [f"{one.kind} {one.ref}" for one in found if one.slot == row.slot]
        if row.id in readers.sandboxes.gateway.status().stale:
            left.append("its route")
        if self._sandboxes.dirs.path(row.slot).exists():
            left.append(str(self._sandboxes.dirs.path(row.slot)))
        if left:
            return fail(f"left behind: {', '.join(left)}", remedy)
        return ok("container, network, volume, route and files are gone")

    def gvisor(self, readers: Readers) -> Verdict:
        """One more sandbox, of a template that asks for it: its kernel must not be the host's."""
        template = self._in_gvisor()[0]
        self._row = self._sandboxes.create(template, Claim(timeout_s=LIFE_S, name=NAME))
        inside = self._execute(self._row, "dmesg | grep -q gVisor", False)
        row, self._row = self._row, None
        self._sandboxes.remove(row, "probe of doctor", ("running",))
        if not inside:
            return fail(f"a sandbox of template {template.name} has the host's kernel", f"docker info; {DEPLOY}")
        return ok(f"{row.id} of template {template.name} had gVisor's kernel")

    def _in_gvisor(self) -> list[Template]:
        return [template for template in self._sandboxes.config.templates.values() if template.runtime == RUNSC]

    def _sandbox(self) -> Sandbox:
        if self._row is None:
            raise SandboxdError("the probe is gone")
        return self._row


def differences(template: Template, memory_bytes: int | None, cpus: float | None, pids: int | None) -> list[str]:
    """In words, what the kernel holds against what the template says."""
    wanted_bytes = template.memory_mb * 1024**2
    wrong = []
    if memory_bytes != wanted_bytes:
        wrong.append(f"memory is {memory_bytes or 'unlimited'}, not {wanted_bytes} bytes")
    if cpus is None or abs(cpus - template.cpus) > CPU_DIFFERENCE:
        wrong.append(f"processors are {'unlimited' if cpus is None else f'{cpus:g}'}, not {template.cpus:g}")
    if pids != template.pids:
        wrong.append(f"processes are {pids or 'unlimited'}, not {template.pids}")
    return wrong


def _shown(answer: Answer) -> str:
    return f"status {answer.status}: {answer.body[:100].decode(errors='replace').strip()}"


def _field(status: str, name: str) -> str:
    """Of /proc/PID/status."""
    return next(line.partition(":")[2].strip() for line in status.splitlines() if line.startswith(f"{name}:"))
