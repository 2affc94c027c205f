"""The list of all checks, in the order of what needs what."""

from sandboxd.doctor import acme, edge, engine, firewall, hardening, host, names, shared
from sandboxd.doctor.findings import Check
from sandboxd.doctor.probe import Probe

LOOKS = (
    Check("unit-docker", host.unit("docker.service")),
    Check("unit-firewall", host.unit("PROJECT-firewall.service")),
    Check("unit-haproxy", host.unit("haproxy.service")),
    Check("unit-egress", host.unit("PROJECT-egress.service")),
    Check("unit-names", host.unit("PROJECT-names.service")),
    Check("unit-sandboxd", host.unit("PROJECT-sandboxd.service")),
    Check("unit-pool", host.unit("PROJECT-container-pool.service", unneeded=True)),
    Check("unit-cron", host.unit("cron.service")),
    Check("engine", engine.answers, ("unit-docker",)),
    Check("runtime", engine.runtime, ("engine",)),
    Check("user-namespaces", engine.user_namespaces, ("engine",)),
    Check("live-restore", engine.live_restore, ("engine",)),
    Check("networks", engine.networks, ("engine",)),
    Check("cgroups", engine.cgroups, ("engine",)),
    Check("apparmor", engine.apparmor, ("engine",)),
    Check("images", engine.images, ("engine",)),
    Check("docker-socket", hardening.docker_socket, ("unit-docker",)),
    Check("firewall", firewall.standing),
    Check("gateway", edge.gateway, ("unit-haproxy",)),
    Check("routes", edge.routes, ("gateway",)),
    Check("egress-proxy", firewall.proxy, ("firewall", "unit-egress", "unit-names")),
    Check("console", edge.console, ("gateway",)),
    Check("traefik", edge.traefik),
    Check("certificate", edge.certificate, ("traefik",)),
    Check("certificate-life", edge.certificate_life, ("traefik",)),
    Check("acme", acme.orders, ("traefik",)),
    Check("dns", names.dns),
    Check("disk-engine", host.disk_of_engine, ("engine",)),
    Check("disk-state", host.disk_of_state),
    Check("shared-storage", shared.storage),
    Check("memory", host.memory),
    Check("clock", host.clock),
    Check("limits", host.limits),
    Check("kernel", hardening.kernel_parameters),
    Check("ledger", host.ledger),
    Check("pool", host.pool, ("engine", "ledger")),
    Check("cleanup", host.cleanup, ("unit-cron",)),
    Check("health", host.health, ("engine", "images", "gateway", "ledger")),
    Check("versions", host.versions),
)
PROBE_NEEDS = ("engine", "images", "gateway", "traefik", "ledger", "disk-engine", "disk-state")


def checks(probe: Probe | None) -> list[Check]:
    """With the steps of a probe, if there is one."""
    return [*LOOKS, *(probe.checks(PROBE_NEEDS) if probe else ())]
