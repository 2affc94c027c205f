"""The settings of a host, as one frozen value. `group_data/all.py` documents each key and holds its default.

`deploys.loading` makes it from a host's data, and `deploys.rules` knows which values are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network

from pyinfra.api.exceptions import DeployError


class SettingError(DeployError):
    """A setting that cannot be used. The message names the key, its value and the remedy."""

    def __init__(self, key: str, value: object, remedy: str) -> None:
        super().__init__(f"{key} = {value!r}: {remedy}")
        self.key = key


# What a template's image is made from; the other fields are its limits.
IMAGE_KEYS = ("image", "context", "base_image", "python_version", "apt_packages", "pip_packages", "npm_packages")

RUNSC = "runsc"
MANAGER, WORKER = "manager", "worker"


@dataclass(frozen=True)
class Template:
    """What one kind of sandbox is made from; memory and disk (/code) in MiB, `cpus` in cores, `pids` in tasks.

    `pool` is the number of members of its warm pool; `runtime` "" for the host's, or RUNSC.
    """

    name: str
    image: str
    context: str
    base_image: str
    python_version: str
    apt_packages: tuple[str, ...]
    pip_packages: tuple[str, ...]
    npm_packages: tuple[str, ...]
    memory_mb: int
    cpus: float
    pids: int
    disk_mb: int
    layer_mb: int
    pool: int
    runtime: str


@dataclass(frozen=True)
class FleetNode:
    """A host of the fleet as all its hosts know it: by a name, and by the IPv4 address that they reach it at."""

    name: str
    role: str
    address: str

    @property
    def manages(self) -> bool:
        return self.role == MANAGER


@dataclass(frozen=True)
class Settings:
    """All settings of one host, valid. Field names are the keys of `group_data/all.py`."""

    project: str
    domain: str
    default_port: int
    tls_mode: str
    tls_certificate: str
    tls_key: str
    acme_email: str
    acme_dns_provider: str
    acme_credentials: tuple[str, ...]
    acme_server: str
    acme_resolvers: tuple[str, ...]
    extra_ca_certificates: tuple[str, ...]
    docker_source: str
    docker_apt_uri: str
    docker_apt_key: str
    docker_runtime: str
    docker_userns_remap: bool
    docker_network_pool: str
    docker_network_prefix: int
    docker_bridge: str
    docker_group: bool
    docker_log_max_size: str
    docker_log_max_files: int
    docker_build_cache: str
    base_suite: str
    base_image: str
    templates: dict[str, Template]
    default_template: str
    python_mirror: str
    sandbox_memory_mb: int
    sandbox_cpus: float
    sandbox_pids: int
    sandbox_disk_mb: int
    sandbox_layer_mb: int
    traefik_image: str
    pool_size: int
    create_parallelism: int
    max_sandboxes: int
    memory_reserve_mb: int
    disk_reserve_mb: int
    build_memory_mb: int
    build_cpus: float
    build_timeout_s: int
    wake_on_visit: bool
    idle_pause_after: str
    failed_tries_per_minute: int
    api_requests_per_minute: int
    cleanup_schedule: str
    cleanup_older_than: str
    metrics_listen: str
    console: bool
    sandbox_network: str
    api_open_network: bool
    network_allow: tuple[str, ...]
    network_deny: tuple[str, ...]
    egress_address: str
    sandbox_users: tuple[str, ...]
    skills_users: tuple[str, ...]
    unattended_upgrades: bool
    journal_max_size: str
    ssh_hardening: bool
    audit_rules: bool
    sysctls: dict[str, int]
    fleet_role: str
    fleet_address: str
    fleet_port: int
    fleet_memory_share: float
    fleet_cpus_share: float
    fleet_nodes: dict[str, FleetNode]
    shared_storage: str
    fence_command: str
    fence_after_s: int

    @property
    def name(self) -> str:
        """Name of our directories on the host, e.g. `flourisha-sandbox`."""
        return f"{self.project}-sandbox"

    @property
    def etc(self) -> str:
        return f"/etc/{self.name}"

    @property
    def state(self) -> str:
        return f"/var/lib/{self.name}"

    @property
    def log(self) -> str:
        return f"/var/log/{self.name}"

    @property
    def opt(self) -> str:
        return f"/opt/{self.name}"

    @property
    def lib(self) -> str:
        return f"/usr/local/lib/{self.name}"

    @property
    def pools(self) -> int:
        """Members of all warm pools together."""
        return sum(template.pool for template in self.templates.values())

    @property
    def networks(self) -> int:
        """How many sandboxes can have a network of their own; `deploys.rules` has checked that there are some."""
        return int(2 ** (self.docker_network_prefix - IPv4Network(self.docker_network_pool).prefixlen))

    @property
    def sandbox_sources(self) -> tuple[str, str]:
        """The networks that sandboxes and builds have addresses of; `deploys.rules` has checked that they are some."""
        return self.docker_network_pool, str(IPv4Interface(self.docker_bridge).network)

    @property
    def idle_pause_s(self) -> int:
        """0 for never; `deploys.rules` has checked the form."""
        after = self.idle_pause_after
        return int(after[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[after[-1]] if after else 0

    @property
    def fleet_managers(self) -> tuple[FleetNode, ...]:
        """In the order of the inventory: the first is the one that makes what there is once in a fleet."""
        return tuple(node for node in self.fleet_nodes.values() if node.manages)

    @property
    def fleet_node(self) -> str:
        """The name that this host has in its fleet, "" on a single host."""
        return next((node.name for node in self.fleet_nodes.values() if node.address == self.fleet_address), "")

    @property
    def builds_images(self) -> bool:
        """Whether this host builds them itself; in a fleet, one does so for all."""
        return not self.fleet_role or self.fleet_managers[0].name == self.fleet_node

    @property
    def shares_authority(self) -> bool:
        """Whether the internal authority is that of another manager: see `deploys.authority`."""
        return self.tls_mode == "internal" and self.fleet_role == MANAGER and not self.builds_images

    def on(self, suite: str) -> Settings:
        """The settings on a host of that Debian release: what is left to the host is filled in.

        A worker orders no certificate: clients do not come to it, and an authority gives so few of the same names in a
        week that a fleet would have had them all at its first deploy.
        """
        ordered = self.tls_mode == "acme" and self.fleet_role == WORKER
        return replace(self, base_suite=self.base_suite or suite, tls_mode="internal" if ordered else self.tls_mode)
