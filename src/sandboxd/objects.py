"""What a sandbox has on the host: its network, disk, directory and container; made, prepared for use, and removed.

Who gets it, and when, is decided in `sandboxes`, which also sees to it that one thread at a time works on a slot.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandboxd import AGENT_PORT, agent, capacity, diskcommands, egressproxy, memory, netns, nftables, nftevents, spec
from sandboxd.audit import Audit
from sandboxd.auditlog import AuditLog
from sandboxd.config import RUNSC, Config, Template
from sandboxd.disks import HOST_ROOT, Disks
from sandboxd.egressproxy import EgressProxy
from sandboxd.engine import Container, Engine
from sandboxd.errors import EngineError, GatewayError, NotReady
from sandboxd.figures import Figures
from sandboxd.gateway import Gateway
from sandboxd.guard import Guard
from sandboxd.ledger import Ledger
from sandboxd.policy import Policy
from sandboxd.records import USED, Claim, Sandbox
from sandboxd.sharedstate import Moved
from sandboxd.sharedstore import SEEN, SharedStore
from sandboxd.sharedvolumes import SharedVolumes
from sandboxd.slotdir import WORKDIR, SlotDirs, agent_text, let_pass
from sandboxd.tokens import TokenKey
from sandboxd.volumes import Volumes

log = logging.getLogger(__name__)

READY_DEADLINE_S = 30.0
LOG_LINES = 20


@dataclass(frozen=True)
class Host:
    """What of the host the life cycle touches besides Docker and the gateway; tests put doubles here."""

    nofile: int = spec.NOFILE
    memlock: int = spec.MEMLOCK_BYTES
    netns_run: netns.Runner = netns.run
    nft_run: nftables.Runner = nftables.run
    disks_run: diskcommands.Runner = diskcommands.run
    root: Path = HOST_ROOT
    nft_changes: Callable[[str], Iterator[None]] = nftevents.changes
    alive: Callable[[str], bool] = agent.alive
    available_memory_mb: Callable[[], int] = capacity.available_memory_mb
    free_disk_mb: Callable[[Path], int] = capacity.free_disk_mb
    reclaim: Callable[[int], None] = memory.reclaim
    now: Callable[[], float] = time.time
    ready_deadline_s: float = READY_DEADLINE_S
    confined: bool = True  # what looks into volumes gives up all that it may otherwise do, which takes root


class Objects:
    def __init__(
        self, config: Config, key: TokenKey, ledger: Ledger, engine: Engine, gateway: Gateway, host: Host
    ) -> None:
        self.config, self.key, self.ledger = config, key, ledger
        key.brought |= ledger.brought()
        self.engine, self.gateway, self.host = engine, gateway, host
        self.dirs = SlotDirs(config.state_dir)
        seen = config.state_dir / SEEN
        store = SharedStore(config.shared.directory, config.shared.node, known=seen) if config.shared else None
        self.shared = SharedVolumes(store, ledger, self.key, lambda file: self.disks.wait_detached(file))
        self.disks = Disks(config.state_dir, host.disks_run, host.root, self.shared.file)
        self.guard = Guard(
            config.project,
            config.egress,
            host.nft_run,
            host.netns_run,
            host.root,
            lambda coming: policies(ledger, coming),
        )
        self.proxy = EgressProxy(
            config.proxy.admin_socket,
            config.proxy.names_map,
            lambda: egressproxy.table(ledger.rows(*egressproxy.HOLDERS)),
            f"{config.project}-egress",
        )
        self.volumes = Volumes(ledger, self.disks, host.now)
        self.figures = Figures(config.templates)
        self.audit = Audit(AuditLog(config.audit_log), host.now, self.figures.failed)

    def _start_new(self, new: Sandbox, template: Template, claim: Claim, moved: Moved | None = None) -> str:
        """Network, disk, directory and container; started, reachable, its agent answering. Returns Docker's id of it.

        One that has `moved` here keeps its own id.
        """
        project, slot, base_uid = self.config.project, new.slot, self.engine.userns_uid()
        known = bool(new.volume) and not self.ledger.made_for(new)
        if claim.shared:
            known = self.shared.take(new, moved.node if moved else None)
            new = self.ledger.get(slot) or new
        elif new.volume:
            self.volumes.give_way(new.volume)
        payload = spec.container_payload(
            project,
            slot,
            template,
            self.dirs.path(slot),
            self.disks.path(slot),
            self.host.nofile,
            self.host.memlock,
            _read_profile(template),
            self.engine.limits_layers(),
            self.guard.name_servers(),
            self.guard.found_servers(),
            self.volumes.mount(new.mounts),
        )
        mounts = [vars(one) for one in new.mounts]
        payload["Labels"] |= spec.row_labels(new.origin, new.memory_mb, new.cpus, new.volume, mounts, claim.owner)
        payload["Labels"] |= spec.shared_labels(new.generation, moved.id if moved else "")
        with ThreadPoolExecutor(1, "disk") as beside:  # the disk takes as long as network and container: meanwhile
            self.disks.make_mount_point(slot)  # the engine wants it to be there; what is mounted, when it starts
            disk = beside.submit(self.disks.create, slot, new.volume, new.disk_mb, base_uid, known, template.disk)
            self.engine.create_network(spec.network_payload(project, slot, template.name))
            self.dirs.create(slot, base_uid)
            container = self.engine.create_container(spec.pool_name(project, slot), payload)
            self.ledger.set_id(slot, container, moved.id if moved else "")
        disk.result()
        sandbox_id = moved.id if moved else container
        self.dirs.write(slot, self._agent_text(sandbox_id, template.name, claim.envs, claim.owner))
        if template.runtime == RUNSC:
            for directory in (self.dirs.path(slot).parent, self.disks.path(slot).parent):
                let_pass(directory, base_uid)
        self.guard.hold(slot, new.policy)
        self.engine.start(container)
        self.prepare(self.inspect(container), slot)
        return container

    def walls(self, template: Template) -> str:
        """What the label WALLS_LABEL of a sandbox says that is made from the template now. Raises EngineError."""
        nowhere, limits = Path("/"), (self.host.nofile, self.host.memlock)
        found, profile = self.guard.found_servers(), _read_profile(template)
        payload = spec.container_payload("", "", template, nowhere, nowhere, *limits, profile, found_servers=found)
        return str(payload["Labels"][spec.WALLS_LABEL])

    def prepare(self, container: Container, slot: str) -> None:
        """What a container needs each time it was started: the rules inside, its row up to date, its agent answering.

        Raises NotReady, with the last lines of its log.
        """
        sandbox_id = container.id
        row = self.ledger.get(slot)
        if container.running:
            if row is not None and row.policy.restricts:
                self.guard.names(container.pid, row.policy)
            if container.runtime == RUNSC:  # gVisor passes over those of the payload
                netns.set_sysctls(container.pid, spec.SYSCTLS, self.host.netns_run)
            netns.ensure_dnat(container.pid, container.gateway, self.host.netns_run)
            if agent.wait_alive(
                lambda: self.host.alive(container.address),
                lambda: self.inspect(sandbox_id).running,
                self.host.ready_deadline_s,
            ):
                self.ledger.set_boot(slot, container.address, container.booted, container.image_id)
                if row is not None and row.policy.names:
                    self.proxy.update(container.address)
                return
        container = self.inspect(sandbox_id)
        state = "runs" if container.running else f"stopped with {container.exit}"
        lines = self.engine.logs(sandbox_id, LOG_LINES).strip() or "(it logged nothing)"
        raise NotReady(
            f"sandbox {sandbox_id} {state}, but its agent does not answer on port {AGENT_PORT}."
            f"\nIts last log lines:\n{lines}"
        )

    def check_names(self, policy: Policy) -> None:
        """Whether names can be told apart, if there are any. Raises BadRequest, HostError and GatewayError."""
        if policy.names:
            self.guard.check_names(policy)
            self.proxy.check()

    def inspect(self, sandbox_id: str) -> Container:
        container = self.engine.container(sandbox_id)
        if container is None:
            raise EngineError(f"the container of sandbox {sandbox_id} is gone: somebody removed it by hand.")
        return container

    def write_agent_file(self, sandbox: Sandbox) -> None:
        """Makes agent.json what the ledger says; leaves it alone when it is."""
        text = self._agent_text(sandbox.id, sandbox.template, sandbox.envs, sandbox.owner)
        if self.dirs.read(sandbox.slot) != text:
            self.dirs.write(sandbox.slot, text)

    def _agent_text(self, sandbox_id: str, template: str, envs: dict[str, str], owner: str) -> str:
        workdir = "" if owner else WORKDIR  # programs that were written for E2B expect to begin at home
        return agent_text(sandbox_id, template, envs, self.config.domain, self.key, workdir)

    def unroute(self, sandbox_id: str) -> None:
        """Its address is in no route any more. A gateway that is down is told by the file, which it will read."""
        try:
            self.gateway.update(sandbox_id)
        except GatewayError as error:
            log.warning("%s", error)

    def _remove_objects(self, row: Sandbox) -> None:
        project = self.config.project
        if row.id:
            self.unroute(row.id)
        self.proxy.forget(row.address)  # before the network goes, and somebody else gets its address
        self.engine.remove_container(row.docker or spec.pool_name(project, row.slot))
        self.engine.remove_network(spec.network_name(project, row.slot))
        self.guard.release(row.slot)
        if row.disk_mb:
            self.disks.remove(row.slot)
        else:
            self.engine.remove_volume(spec.volume_name(project, row.slot))
        self.dirs.remove(row.slot)
        self.shared.give_back(row)
        lost = bool(row.volume) and not row.shared and row.claimed_at is None and self.ledger.made_for(row)
        lost = lost and self.disks.size_mb(row.volume) is None
        if lost:
            self.disks.remove_volume(row.volume)  # what was begun of it
        self.ledger.set_gone(row.slot, self.host.now(), lost)
        if row.mounts:
            self.volumes.release()


def _read_profile(template: Template) -> str:
    """The text of the template's seccomp profile: the engine's API wants the text, not the path."""
    if not template.seccomp:
        return ""
    try:
        return Path(template.seccomp).read_text()
    except OSError as error:
        raise EngineError(
            f"template {template.name}: seccomp profile {template.seccomp}: {error.strerror}. Deploy again."
        ) from error


def policies(ledger: Ledger, coming: bool) -> dict[str, Policy]:
    """slot -> the policy, of all whose containers run or may be started; with `coming` also of those being made."""
    states = ("creating", "warm", *USED) if coming else ("warm", *USED)
    return {row.slot: row.policy for row in ledger.rows(*states)}
