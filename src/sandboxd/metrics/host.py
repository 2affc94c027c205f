"""Parts about the host: memory, load, disks, dropped packets. Reads /proc, and asks the engine where its data is."""

from collections.abc import Callable, Iterable

from prometheus_client.core import Metric

from sandboxd.api.services import Services
from sandboxd.doctor.effects import Effects
from sandboxd.metrics.families import counter, gauge

KIB = 1024


def parts(services: Services) -> dict[str, Callable[[], Iterable[Metric]]]:
    effects = services.effects
    return {
        "memory": lambda: memory(effects),
        "load": lambda: load(effects),
        "disks": lambda: disks(services),
        "network": lambda: network(effects),
        "conntrack": lambda: conntrack(effects),
    }


def memory(effects: Effects) -> Iterable[Metric]:
    lines = [line.split() for line in effects.text("/proc/meminfo").splitlines()]
    found = {words[0].rstrip(":"): int(words[1]) * KIB for words in lines}
    text = "Memory that the kernel can give away without swapping."
    yield gauge("sandbox_host_memory_available_bytes", text, [], {(): found["MemAvailable"]})
    yield gauge("sandbox_host_memory_bytes", "Memory of the host.", [], {(): found["MemTotal"]})


def load(effects: Effects) -> Iterable[Metric]:
    values = effects.text("/proc/loadavg").split()[:3]
    found = {(period,): float(value) for period, value in zip(("1m", "5m", "15m"), values, strict=True)}
    yield gauge("sandbox_host_load", "Processes that run or wait, on average of that time.", ["period"], found)
    processors = sum(line.startswith("processor") for line in effects.text("/proc/cpuinfo").splitlines())
    yield gauge("sandbox_host_processors", "Processors of the host.", [], {(): processors})


def disks(services: Services) -> Iterable[Metric]:
    places = {"sandboxes": services.sandboxes.config.state_dir, "docker": services.sandboxes.engine.data_root()}
    found = {(name,): services.effects.space(str(path)) for name, path in places.items()}
    free = {key: one.f_bavail * one.f_frsize for key, one in found.items()}
    text = "What may be written to the file system of sandboxes' disks, and of Docker's data."
    yield gauge("sandbox_host_disk_free_bytes", text, ["place"], free)
    sizes = {key: one.f_blocks * one.f_frsize for key, one in found.items()}
    yield gauge("sandbox_host_disk_size_bytes", "Size of these file systems.", ["place"], sizes)


def network(effects: Effects) -> Iterable[Metric]:
    """Of the interface that leads away from the host. Those of sandboxes come and go, and their counters with them."""
    routes = [line.split() for line in effects.text("/proc/net/route").splitlines()[1:]]
    outward = next((words[0] for words in routes if words[1] == words[7] == "00000000"), "")
    lines = (line.partition(":") for line in effects.text("/proc/net/dev").splitlines())
    counts = next((rest.split() for name, _, rest in lines if name.strip() == outward), None)
    if counts is not None:
        found = {("received",): float(counts[3]), ("sent",): float(counts[11])}
        text = "Packets that the host's interface has dropped."
        yield counter("sandbox_host_network_dropped_packets", text, ["direction"], found)


def conntrack(effects: Effects) -> Iterable[Metric]:
    """The kernel's table of connections, which all sandboxes share: when it is full, packets are dropped."""
    entries, limit = (int(effects.text(f"/proc/sys/net/netfilter/nf_conntrack_{what}")) for what in ("count", "max"))
    yield gauge("sandbox_host_connections", "Connections that the kernel keeps track of.", [], {(): entries})
    yield gauge("sandbox_host_connections_limit", "How many it can keep track of.", [], {(): limit})
    head, *rows = (line.split() for line in effects.text("/proc/net/stat/nf_conntrack").splitlines())
    columns = [head.index(name) for name in ("drop", "early_drop")]
    dropped = sum(int(row[column], 16) for row in rows for column in columns)
    text = "Connections that were dropped since that table was full."
    yield counter("sandbox_host_connections_dropped", text, [], {(): dropped})
