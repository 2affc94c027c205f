"""The daemon's configuration: one TOML file, read once at start into frozen values.

An error names the file, the key, the value and the remedy. Nothing here touches anything but that file.
"""

import base64
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from sandboxd.egress import MODES, Egress
from sandboxd.errors import ConfigError

REMEDY = "The file is rendered by the deploy: correct the setting there and deploy again."
MISSING = object()
DISK_MIN_MB, DISK_MAX_MB = 64, 16_777_216  # of ext4 with its journal
POOL_MAX = 1000
RUNSC = "runsc"  # gVisor


@dataclass(frozen=True)
class Gateway:
    """Where HAProxy listens, where it takes commands, the map file that it reads at its start, and where it asks us:
    a socket that its group may open."""

    address: tuple[str, int]
    admin_socket: Path
    routes_map: Path
    socket: Path
    group: str


@dataclass(frozen=True)
class Proxy:
    """Where the egress proxy takes commands, and the map of names that it reads at its start."""

    admin_socket: Path
    names_map: Path


@dataclass(frozen=True)
class Template:
    """What a sandbox is made of. `seccomp` is the path of a JSON profile; empty strings leave the engine's default."""

    name: str
    image: str
    memory_mb: int
    cpus: float
    pids: int
    disk_mb: int
    layer_mb: int
    pool: int = 0  # members of its warm pool, unless `pool resize` says otherwise
    seccomp: str = ""
    apparmor: str = ""
    runtime: str = ""
    disk: Path | None = None  # files that /code has from the beginning: the image of a disk


@dataclass(frozen=True)
class Wanted:
    """How the deploy set up what is not sandboxd's own; `doctor` compares it with what is in effect."""

    runtime: str = "crun"
    userns_remap: bool = True
    tls_mode: str = "internal"
    console: bool = True


@dataclass(frozen=True)
class Fleet:
    """Of a host of a fleet: where its managers ask, through the gateway, whose group may open that socket. `manages`:
    this host is one of them, and `Config.socket` is that of its fleet service."""

    socket: Path
    group: str
    manages: bool


@dataclass(frozen=True)
class Shared:
    """Storage that all hosts of the fleet have mounted at `directory`; `node` is what the fleet calls this one."""

    directory: Path
    node: str


@dataclass(frozen=True)
class Config:
    project: str
    domain: str
    state_dir: Path
    secrets_dir: Path
    socket: Path
    socket_group: str
    listen: tuple[str, int]
    metrics_listen: tuple[str, int] | None  # without a key, so only on the loopback; None: nowhere
    audit_log: Path
    default_template: str
    default_port: int
    create_parallelism: int
    max_sandboxes: int  # 0: no limit
    memory_reserve_mb: int
    disk_reserve_mb: int
    build_timeout_s: int
    wake_on_visit: bool  # this and the next: of sandboxes that the command line makes, unless it says otherwise
    idle_pause_s: float | None
    gateway: Gateway
    proxy: Proxy
    templates: dict[str, Template]
    wanted: Wanted = Wanted()
    egress: Egress = field(default_factory=Egress)
    fleet: Fleet | None = None
    shared: Shared | None = None

    @property
    def ledger(self) -> Path:
        return self.state_dir / "ledger.sqlite"

    @property
    def own_socket(self) -> Path:
        """Where this host is asked, and not the fleet that it manages."""
        return self.fleet.socket if self.fleet and self.fleet.manages else self.socket

    def url(self, sandbox_id: str, port: int | None = None) -> str:
        """Where a port of the sandbox is reached from outside; None is the default port."""
        return f"https://{port or 'qa'}-{sandbox_id}.{self.domain}"


class Table:
    """One TOML table, read key by key, so that every complaint can name the file and the whole key."""

    def __init__(self, file: Path, values: Any, prefix: str = "") -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {prefix.rstrip('.')} = {values!r}: must be a table. {REMEDY}")
        self._file, self._values, self._prefix = file, values, prefix
        self._read: set[str] = set()

    def text(
        self, key: str, pattern: str = r".+", rule: str = "must be a text that is not empty", default: Any = MISSING
    ) -> str:
        return str(
            self._take(key, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None, rule, default)
        )

    def path(self, key: str) -> Path:
        return Path(self.text(key, r"/.+", "must be an absolute path"))

    def whole(self, key: str, low: int, high: int) -> int:
        rule = f"must be a whole number from {low} to {high}"
        return int(self._take(key, lambda v: type(v) is int and low <= v <= high, rule))

    def number(self, key: str, low: float, high: float) -> float:
        rule = f"must be a number from {low} to {high}"
        return float(self._take(key, lambda v: type(v) in (int, float) and low <= v <= high, rule))

    def switch(self, key: str) -> bool:
        return bool(self._take(key, lambda v: isinstance(v, bool), "must be true or false"))

    def address(self, key: str) -> tuple[str, int]:
        rule = 'must look like "127.0.0.1:8090", with a port from 1 to 65535'
        host, _, port = self.text(key, r"[^:]+:\d{1,5}", rule).rpartition(":")
        if not 1 <= int(port) <= 65535:
            raise self.wrong(key, rule)
        return host, int(port)

    def loopback(self, key: str) -> tuple[str, int] | None:
        """An address that only this host reaches, None for an empty text."""
        rule = 'must be like "127.0.0.1:9464", on the loopback, or empty'
        if not self.text(key, r"(127(\.\d{1,3}){3}:\d{1,5})?", rule):
            return None
        return self.address(key)

    def ipv4(self, key: str) -> str:
        rule = 'must be an IPv4 address, such as "198.18.0.1"'
        try:
            return str(IPv4Address(self.text(key)))
        except ValueError:
            raise self.wrong(key, rule) from None

    def networks(self, key: str) -> tuple[str, ...]:
        """IPv4 networks, in the form that they are given in."""
        rule = 'must be a list of IPv4 networks, such as ["192.0.2.0/24"]'
        values = self._take(key, lambda v: isinstance(v, list), rule)
        try:
            return tuple(str(IPv4Network(value)) for value in values)
        except (ValueError, TypeError):
            raise self.wrong(key, rule) from None

    def ports(self, key: str) -> tuple[int, ...]:
        rule = "must be a list of ports, from 1 to 65535"
        values = self._take(key, lambda v: isinstance(v, list), rule)
        if not all(type(value) is int and 1 <= value <= 65535 for value in values):
            raise self.wrong(key, rule)
        return tuple(values)

    def table(self, key: str) -> "Table":
        return Table(self._file, self._take(key, lambda v: True, "must be a table"), f"{self._prefix}{key}.")

    def pass_over(self, key: str) -> None:
        """What somebody else reads; it need not be there."""
        self._read.add(key)

    def keys(self) -> list[str]:
        return list(self._values)

    def refuse_unknown(self) -> None:
        """A key that nobody reads is a typing error, and the setting that was meant would silently not hold."""
        for key in self._values.keys() - self._read:
            raise self.wrong(key, f"is no key of this release. Known here: {', '.join(sorted(self._read))}.")

    def wrong(self, key: str, rule: str) -> ConfigError:
        value = self._values.get(key, MISSING)
        shown = "is missing" if value is MISSING else f"= {value!r}"
        return ConfigError(f"{self._file}: {self._prefix}{key} {shown}: {rule}. {REMEDY}")

    def _take(self, key: str, good: Callable[[Any], bool], rule: str, default: Any = MISSING) -> Any:
        self._read.add(key)
        value = self._values.get(key, default)
        if value is MISSING or (key in self._values and not good(value)):
            raise self.wrong(key, rule)
        return value


def read(file: Path) -> Table:
    """The top of a file. Raises ConfigError when it cannot be read or is no TOML."""
    try:
        return Table(file, tomllib.loads(file.read_text()))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}. Deploy the host, or name the file with --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}. {REMEDY}") from error


def load(file: Path) -> Config:
    """Reads and checks the configuration.

    Raises ConfigError when the file cannot be read, is no TOML, lacks a key, has a key too many or a wrong value.
    """
    top = read(file)
    gateway, templates = top.table("gateway"), top.table("templates")
    wanted, network, proxy = top.table("wanted"), top.table("network"), top.table("proxy")
    fleet = top.table("fleet") if "fleet" in top.keys() else None  # noqa: SIM118
    shared = top.table("shared") if "shared" in top.keys() else None  # noqa: SIM118
    config = Config(
        project=top.text(
            "project", r"[a-z][a-z0-9-]{0,30}", "must be 1 to 31 of a-z, 0-9 and -, beginning with a letter"
        ),
        domain=top.text("domain", r"[a-z0-9-]+(\.[a-z0-9-]+)*", "must be a domain name in lower case"),
        state_dir=top.path("state_dir"),
        secrets_dir=top.path("secrets_dir"),
        socket=top.path("socket"),
        socket_group=top.text("socket_group"),
        listen=top.address("listen"),
        metrics_listen=top.loopback("metrics_listen"),
        audit_log=top.path("audit_log"),
        default_template=top.text("default_template"),
        default_port=top.whole("default_port", 1, 65535),
        create_parallelism=top.whole("create_parallelism", 1, 64),
        max_sandboxes=top.whole("max_sandboxes", 0, 1_000_000),
        memory_reserve_mb=top.whole("memory_reserve_mb", 0, DISK_MAX_MB),
        disk_reserve_mb=top.whole("disk_reserve_mb", 0, DISK_MAX_MB),
        build_timeout_s=top.whole("build_timeout_s", 1, 86400),
        wake_on_visit=top.switch("wake_on_visit"),
        idle_pause_s=top.whole("idle_pause_s", 0, 1_000_000_000) or None,
        gateway=Gateway(
            gateway.address("address"),
            gateway.path("admin_socket"),
            gateway.path("routes_map"),
            gateway.path("socket"),
            gateway.text("group"),
        ),
        proxy=Proxy(proxy.path("admin_socket"), proxy.path("names_map")),
        templates={name: _template(name, templates.table(name)) for name in templates.keys()},  # noqa: SIM118
        wanted=Wanted(
            runtime=wanted.text("runtime"),
            userns_remap=wanted.switch("userns_remap"),
            tls_mode=wanted.text("tls_mode", r"internal|files|acme", "must be internal, files or acme"),
            console=wanted.switch("console"),
        ),
        egress=Egress(
            mode=network.text("mode", "|".join(MODES), f"must be one of {', '.join(MODES)}"),
            allow=network.networks("allow"),
            deny=network.networks("deny"),
            keys_may_open=network.switch("keys_may_open"),
            sources=network.networks("sources"),
            address=network.ipv4("egress_address"),
            user=network.text("egress_user"),
            fleet=fleet.networks("addresses") if fleet else (),
            fleet_ports=fleet.ports("ports") if fleet else (),
        ),
        fleet=Fleet(fleet.path("socket"), fleet.text("group"), fleet.switch("manages")) if fleet else None,
        shared=Shared(shared.path("directory"), shared.text("node")) if shared else None,
    )
    top.pass_over("browser")  # the command line's, as is the next one
    if fleet:
        fleet.pass_over("managers")
    for table in (top, gateway, wanted, network, proxy, *(one for one in (fleet, shared) if one)):
        table.refuse_unknown()
    if config.default_template not in config.templates:
        known = ", ".join(config.templates) or "none"
        raise top.wrong("default_template", f"must name one of the templates ({known})")
    return config


def _template(name: str, table: Table) -> Template:
    template = Template(
        name=name,
        image=table.text("image"),
        memory_mb=table.whole("memory_mb", 16, 4_194_304),
        cpus=table.number("cpus", 0.01, 1024),
        pids=table.whole("pids", 16, 4_194_304),
        disk_mb=table.whole("disk_mb", DISK_MIN_MB, DISK_MAX_MB),
        layer_mb=table.whole("layer_mb", 1, DISK_MAX_MB),
        pool=table.whole("pool", 0, POOL_MAX),
        seccomp=table.text("seccomp", r"(/.+)?", "must be the absolute path of a JSON profile, or empty", ""),
        apparmor=table.text("apparmor", r".*", "must be the name of a loaded AppArmor profile, or empty", ""),
        runtime=table.text("runtime", f"({RUNSC})?", f"must be {RUNSC}, or empty for the engine's default", ""),
    )
    table.refuse_unknown()
    return template


def read_token_key(secrets_dir: Path) -> bytes:
    """The key from which the agents' access tokens are derived: hex in `token_key`, at least 32 bytes."""
    file = secrets_dir / "token_key"
    remedy = "The deploy creates it once (32 random bytes as hex, mode 0600): deploy again."
    try:
        key = bytes.fromhex(file.read_text().strip())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}. {remedy}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: is not hexadecimal. {remedy}") from error
    if len(key) < 32:
        raise ConfigError(f"{file}: has {len(key)} bytes, 32 or more are needed. {remedy}")
    return key


def read_link_key(secrets_dir: Path) -> bytes:
    """The key that links are signed with. The gateway reads the same file, as a map with one entry: `key <Base64>`."""
    file = secrets_dir / "link_key"
    remedy = "The deploy creates it once: deploy again."
    try:
        name, _, text = file.read_text().strip().partition(" ")
        key = base64.b64decode(text, validate=True)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}. {remedy}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: is not `key <Base64>`. {remedy}") from error
    if name != "key" or len(key) < 32:
        raise ConfigError(f"{file}: is not `key <Base64>` of 32 or more bytes. {remedy}")
    return key
