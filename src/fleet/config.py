"""The configuration of the fleet service: one TOML file, read once at start into frozen values.

An error names the file, the key, the value and the remedy. Nothing here touches anything but that file.
"""

from dataclasses import dataclass
from pathlib import Path

from sandboxd.config import Table, read

ROLES = ("manager", "worker")
SHARES = (0.01, 1.0)  # from, to
# Swarm refuses a reservation of less: swarmkit, manager/controlapi/service.go, validateResources.
LEAST_MB, LEAST_CPUS = 4, 0.001


@dataclass(frozen=True)
class Size:
    """What a sandbox of a template may use."""

    memory_mb: int
    cpus: float


@dataclass(frozen=True)
class Share:
    """The part of what a sandbox may use that its lease reserves. A host gives out more than it has, as a single one
    does, and refuses by its own measure: so leases need not keep it from being full, only spread what comes.
    """

    memory: float
    cpus: float

    def of(self, memory_mb: int, cpus: float) -> tuple[int, float]:
        """What is reserved for a sandbox that may use so much."""
        return max(LEAST_MB, round(memory_mb * self.memory)), max(LEAST_CPUS, cpus * self.cpus)


@dataclass(frozen=True)
class Host:
    """A host of the fleet; `socket` is where it answers on this one, whatever lies between."""

    name: str
    role: str
    address: str
    socket: Path


@dataclass(frozen=True)
class Fencing:
    """The program that switches a host off, empty for none: run once the host has been lost for `after_s` seconds."""

    command: str = ""
    after_s: float = 60.0
    timeout_s: float = 120.0


@dataclass(frozen=True)
class Config:
    """`node` is what the fleet calls this host; `map` and `admin` are the gateway's: which id is on which host."""

    project: str
    domain: str
    node: str
    listen: tuple[str, int]
    socket: Path
    socket_group: str
    default_template: str
    engine: Path
    lease_image: str
    lease_share: Share
    map: Path
    admin: Path
    templates: dict[str, Size]
    nodes: dict[str, Host]
    fencing: Fencing = Fencing()

    @property
    def managers(self) -> list[str]:
        return [host.name for host in self.nodes.values() if host.role == "manager"]


def load(file: Path) -> Config:
    """Reads and checks the configuration.

    Raises ConfigError when the file cannot be read, is no TOML, lacks a key, has a key too many or a wrong value.
    """
    top = read(file)
    templates, nodes = top.table("templates"), top.table("nodes")
    fencing = top.table("fencing") if "fencing" in top.keys() else None  # noqa: SIM118
    config = Config(
        project=top.text("project"),
        domain=top.text("domain", r"[a-z0-9-]+(\.[a-z0-9-]+)*", "must be a domain name in lower case"),
        node=top.text("node"),
        listen=top.address("listen"),
        socket=top.path("socket"),
        socket_group=top.text("socket_group"),
        default_template=top.text("default_template"),
        engine=top.path("engine"),
        lease_image=top.text("lease_image"),
        lease_share=Share(top.number("lease_memory_share", *SHARES), top.number("lease_cpus_share", *SHARES)),
        map=top.path("map"),
        admin=top.path("admin"),
        templates={name: _size(templates.table(name)) for name in templates.keys()},  # noqa: SIM118
        nodes={name: _host(name, nodes.table(name)) for name in nodes.keys()},  # noqa: SIM118
        fencing=_fencing(fencing) if fencing else Fencing(),
    )
    top.refuse_unknown()
    for key, value, known in (
        ("default_template", config.default_template, list(config.templates)),
        ("node", config.node, config.managers),
    ):
        if value not in known:
            raise top.wrong(key, f"must be one of {', '.join(known) or 'none'}")
    return config


def _fencing(table: Table) -> Fencing:
    command = table.text("command", r"(/.+)?", "must be the absolute path of a program, or empty", "")
    made = Fencing(command, table.whole("after_s", 5, 86400), table.whole("timeout_s", 1, 3600))
    table.refuse_unknown()
    return made


def _size(table: Table) -> Size:
    size = Size(table.whole("memory_mb", 16, 4_194_304), table.number("cpus", 0.01, 1024))
    table.refuse_unknown()
    return size


def _host(name: str, table: Table) -> Host:
    role = table.text("role", "|".join(ROLES), f"must be {' or '.join(ROLES)}")
    host = Host(name, role, table.ipv4("address"), table.path("socket"))
    table.refuse_unknown()
    return host
