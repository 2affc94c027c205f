"""Which values the settings may have, and which not together. Looks for files on the workstation that they name."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from deploys import acme, fleetrules
from deploys.settings import IMAGE_KEYS, RUNSC, SettingError, Settings, Template

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
TEMPLATE_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
DOMAIN = re.compile(r"(?=.{1,200}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
# A public DNS service whose names have an address in them, for hosts without a domain of their own.
BY_ADDRESS = "sslip.io"
DURATION = re.compile(r"[1-9][0-9]*[smhd]")
SIZE = re.compile(r"[1-9][0-9]*([kmgKMG][bB]?)")
JOURNAL_SIZE = re.compile(r"[1-9][0-9]*[MGT]")  # as journald.conf(5) writes it
IMAGE = re.compile(
    r"[a-z0-9][A-Za-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?"
)
URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/+-]*)?")
RESOLVER = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+")
SCHEDULE = re.compile(r"(@hourly|@daily|\S+ \S+ \S+ \S+ \S+)")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
LOOPBACK = re.compile(r"(127(\.\d{1,3}){3}:\d{1,5})?")
TAKEN_PORTS = (80, 443, 8081, 8090)  # Traefik's, the gateway's and the API's
PACKAGE = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@/._+\[\]~=<>!,:-]*")


def check(settings: Settings) -> None:
    """Raises SettingError for a value out of range, or keys that contradict each other."""
    _check_names(settings)
    _check_tls(settings)
    _check_docker(settings)
    _between("pool_size", settings.pool_size, 0, 100, "members")
    for template in settings.templates.values():
        _check_template(template)
        if any(
            other.image == template.image and not same_image(other, template) for other in settings.templates.values()
        ):
            remedy = "each template needs an image name of its own: one build would remove the other's"
            raise SettingError(f"templates[{template.name!r}]['image']", template.image, remedy)
    if settings.default_template not in settings.templates:
        raise SettingError(
            "default_template", settings.default_template, f"choose one of {', '.join(settings.templates)}"
        )
    _between("create_parallelism", settings.create_parallelism, 1, 32, "creates at a time")
    _between("max_sandboxes", settings.max_sandboxes, 0, 1_000_000, "sandboxes; 0 for no limit")
    if 0 < settings.max_sandboxes <= settings.pools:
        remedy = f"the pools have {settings.pools} members: no sandbox could be made besides; use more, or 0 for none"
        raise SettingError("max_sandboxes", settings.max_sandboxes, remedy)
    _between("memory_reserve_mb", settings.memory_reserve_mb, 0, 1024 * 1024, "MiB")
    _between("disk_reserve_mb", settings.disk_reserve_mb, 0, 16_777_216, "MiB")
    _between("build_memory_mb", settings.build_memory_mb, 256, 16_777_216, "MiB")
    _between("build_cpus", settings.build_cpus, 0.1, 1024, "processors")
    _between("build_timeout_s", settings.build_timeout_s, 10, 86400, "seconds")
    if settings.idle_pause_after:
        remedy = "use a number and s, m, h or d, such as '30m', or '' for never"
        _matches("idle_pause_after", settings.idle_pause_after, DURATION, remedy)
    _between("failed_tries_per_minute", settings.failed_tries_per_minute, 1, 1_000_000, "tries")
    _between("api_requests_per_minute", settings.api_requests_per_minute, 0, 100_000_000, "requests; 0 for no limit")
    _matches("cleanup_schedule", settings.cleanup_schedule, SCHEDULE, "use five cron fields, such as '0 * * * *'")
    _matches(
        "cleanup_older_than", settings.cleanup_older_than, DURATION, "use a number and s, m, h or d, such as '24h'"
    )
    _check_metrics(settings.metrics_listen)
    _one_of("sandbox_network", settings.sandbox_network, ("open", "public", "none"))
    for key in ("network_allow", "network_deny"):
        for network in getattr(settings, key):
            _check_network(key, network)
    _check_egress(settings)
    fleetrules.check(settings)
    for key in ("sandbox_users", "skills_users"):
        for user in getattr(settings, key):
            _matches(key, user, USER, "use the login names of users")
    if settings.journal_max_size:
        remedy = "use a size such as '1G' or '500M', or '' to leave journald as it is"
        _matches("journal_max_size", settings.journal_max_size, JOURNAL_SIZE, remedy)
    for name, value in settings.sysctls.items():
        if not re.fullmatch(r"[a-z0-9_.-]+", name) or type(value) is not int:
            raise SettingError("sysctls", {name: value}, "use names such as 'vm.swappiness' with whole numbers")
    if "net.ipv4.ip_forward" in settings.sysctls:
        raise SettingError(
            "sysctls", "net.ipv4.ip_forward", "leave it out: Docker closes FORWARD only if it sets this itself"
        )


def same_image(one: Template, other: Template) -> bool:
    """Whether both are built from the same, and so differ in their limits alone."""
    return all(getattr(one, key) == getattr(other, key) for key in IMAGE_KEYS)


def _check_names(settings: Settings) -> None:
    _matches("project", settings.project, NAME, "use lower-case letters, digits and dashes, at most 31")
    if not settings.domain:
        raise SettingError(
            "domain", "", "name the domain of the sandboxes, as in `make deploy HOST=... DOMAIN=example.com`"
        )
    _matches("domain", settings.domain, DOMAIN, "use a DNS name in lower case, such as 'sandbox.example.com'")
    _between("default_port", settings.default_port, 1, 65535, "a TCP port")
    for key in ("base_image", "traefik_image"):
        if getattr(settings, key):
            _matches(key, getattr(settings, key), IMAGE, "use an image reference, such as 'debian:trixie-slim', or ''")
    if settings.python_mirror:
        _matches("python_mirror", settings.python_mirror, URL, "use an http(s):// address, or '' for GitHub")
    _matches("base_suite", settings.base_suite, re.compile("(bookworm|trixie)?"), "use 'bookworm', 'trixie' or ''")


def _check_metrics(address: str) -> None:
    """Nobody asks for a key there, so nobody else than this host may reach it."""
    remedy = "use an address of the loopback, such as '127.0.0.1:9464', or '' for none"
    _matches("metrics_listen", address, LOOPBACK, remedy)
    port = int(address.rpartition(":")[2] or 1)
    if not 1 <= port <= 65535:
        raise SettingError("metrics_listen", address, remedy)
    if port in TAKEN_PORTS:
        raise SettingError("metrics_listen", address, f"port {port} is taken by a part of this host: use another")


def _check_network(key: str, network: str) -> None:
    try:
        ipaddress.IPv4Network(network)
    except ValueError as error:
        raise SettingError(key, network, f"{error}; use IPv4 networks, such as '10.1.2.3/32'") from None


def _check_egress(settings: Settings) -> None:
    """Sandboxes reach it by their default route, and the loopback's network they do not reach at all."""
    value = settings.egress_address
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError as error:
        raise SettingError("egress_address", value, f"{error}; use an IPv4 address, such as '198.18.0.1'") from None
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise SettingError(
            "egress_address", value, "no packet of a sandbox is led there; use '198.18.0.1', or its like"
        )
    for key, network in zip(("docker_network_pool", "docker_bridge"), settings.sandbox_sources, strict=True):
        if address in ipaddress.IPv4Network(network):
            raise SettingError("egress_address", value, f"is in {key} {network}: use one that nobody has")


def _check_tls(settings: Settings) -> None:
    _one_of("tls_mode", settings.tls_mode, ("internal", "files", "acme"))
    if settings.tls_mode == "files":
        for key in ("tls_certificate", "tls_key"):
            _readable(key, getattr(settings, key), "tls_mode 'files' needs this PEM file on the workstation")
    if settings.tls_mode == "acme":
        _check_acme(settings)
    for path in settings.extra_ca_certificates:
        if not Path(path).expanduser().exists():
            raise SettingError("extra_ca_certificates", path, "there is no such file or directory on the workstation")


def _check_acme(settings: Settings) -> None:
    _matches("acme_email", settings.acme_email, EMAIL, "tls_mode 'acme' needs the e-mail of the account")
    if not re.fullmatch(r"[a-z0-9]+", settings.acme_dns_provider):
        remedy = "name one of Traefik's DNS providers, such as 'cloudflare' or 'rfc2136'"
        raise SettingError("acme_dns_provider", settings.acme_dns_provider, remedy)
    if settings.acme_server not in acme.SERVERS and not re.fullmatch(f"(?=https:){URL.pattern}", settings.acme_server):
        remedy = "use 'production' or 'staging' of Let's Encrypt, or the https:// address of another ACME directory"
        raise SettingError("acme_server", settings.acme_server, remedy)
    if not settings.acme_credentials:
        remedy = "name a file of NAME=value lines, or environment variables, with the DNS provider's credentials"
        raise SettingError("acme_credentials", [], remedy)
    for entry in settings.acme_credentials:
        if not acme.VARIABLE.fullmatch(entry):
            remedy = "there is no such file of NAME=value lines on the workstation; for a variable write its NAME"
            _readable("acme_credentials", entry, remedy)
    for resolver in settings.acme_resolvers:
        _matches(
            "acme_resolvers", resolver, RESOLVER, "use addresses of DNS servers, such as '1.1.1.1' or '10.0.0.1:5353'"
        )
    if settings.domain.endswith(f".{BY_ADDRESS}"):
        remedy = (
            f"names of {BY_ADDRESS} take no record, so no wildcard certificate: use tls_mode 'internal', or a domain"
        )
        raise SettingError("tls_mode", "acme", remedy)


def _check_docker(settings: Settings) -> None:
    _one_of("docker_source", settings.docker_source, ("debian", "docker"))
    _one_of("docker_runtime", settings.docker_runtime, ("crun", "runc"))
    _matches("docker_apt_uri", settings.docker_apt_uri, URL, "use the http(s):// address of an apt repository")
    if settings.docker_apt_key:
        _readable("docker_apt_key", settings.docker_apt_key, "there is no such key file on the workstation")
    try:
        pool = ipaddress.IPv4Network(settings.docker_network_pool)
    except ValueError as error:
        raise SettingError(
            "docker_network_pool", settings.docker_network_pool, f"{error}; use a network like 10.200.0.0/16"
        ) from None
    if not pool.prefixlen < settings.docker_network_prefix <= 29:
        remedy = f"use a prefix longer than /{pool.prefixlen} of docker_network_pool, and at most 29"
        raise SettingError("docker_network_prefix", settings.docker_network_prefix, remedy)
    if settings.networks < settings.pools + 10:
        needed = settings.pools + 10
        remedy = f"holds {settings.networks} networks; the pools and ten sandboxes need {needed}: take a larger one"
        raise SettingError("docker_network_pool", settings.docker_network_pool, remedy)
    try:
        bridge = ipaddress.IPv4Interface(settings.docker_bridge)
    except ValueError as error:
        raise SettingError(
            "docker_bridge", settings.docker_bridge, f"{error}; use an address like 10.199.0.1/24"
        ) from None
    if bridge.network.overlaps(pool):
        raise SettingError("docker_bridge", settings.docker_bridge, f"overlaps docker_network_pool {pool}")
    _matches("docker_log_max_size", settings.docker_log_max_size, SIZE, "use a size such as '10m'")
    _between("docker_log_max_files", settings.docker_log_max_files, 1, 100, "files")
    _matches("docker_build_cache", settings.docker_build_cache, SIZE, "use a size such as '10GB'")


def _check_template(template: Template) -> None:
    where = f"templates[{template.name!r}]"
    _matches(
        f"{where}['image']", template.image, re.compile(r"[a-z0-9]+([._/-][a-z0-9]+)*"), "use an image name without tag"
    )
    if template.base_image:
        _matches(f"{where}['base_image']", template.base_image, IMAGE, "use an image reference, or ''")
    _one_of(f"{where}['context']", template.context, ("sandbox", "playwright", "code-interpreter"))
    _matches(
        f"{where}['python_version']",
        template.python_version,
        re.compile(r"(3\.\d+(\.\d+)?)?"),
        "use a version such as '3.12'",
    )
    for key in ("apt_packages", "pip_packages", "npm_packages"):
        for package in getattr(template, key):
            _matches(f"{where}[{key!r}]", package, PACKAGE, "use package names, one an entry")
    _between(f"{where}['memory_mb']", template.memory_mb, 64, 1024 * 1024, "MiB")
    _between(f"{where}['cpus']", template.cpus, 0.1, 256, "cores")
    _between(f"{where}['pids']", template.pids, 32, 65536, "tasks")
    _between(f"{where}['disk_mb']", template.disk_mb, 64, 16_777_216, "MiB")
    _between(f"{where}['layer_mb']", template.layer_mb, 64, 16_777_216, "MiB")
    _between(f"{where}['pool']", template.pool, 0, 100, "members")
    if template.runtime not in ("", RUNSC):
        remedy = f"use {RUNSC!r} for gVisor, or '' for docker_runtime"
        raise SettingError(f"{where}['runtime']", template.runtime, remedy)


def _matches(key: str, value: str, pattern: re.Pattern[str], remedy: str) -> None:
    if not pattern.fullmatch(value):
        raise SettingError(key, value, remedy)


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingError(key, value, f"choose one of {', '.join(choices)}")


def _between(key: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise SettingError(key, value, f"must be between {low} and {high} ({unit})")


def _readable(key: str, path: str, remedy: str) -> None:
    if not path or not Path(path).expanduser().is_file():
        raise SettingError(key, path, remedy)
