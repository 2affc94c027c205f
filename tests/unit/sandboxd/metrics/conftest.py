"""A daemon whose host is written down: its files in /proc, its file systems, its certificate."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandboxd.doctor.effects import Effects, Output
from tests.unit.sandboxd.clients import Client
from tests.unit.sandboxd.conftest import World

PROC = {
    "meminfo": "MemTotal:        4000 kB\nMemFree:   100 kB\nMemAvailable:    3000 kB\n",
    "loadavg": "0.50 1.25 2.00 1/234 5678\n",
    "cpuinfo": "processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n",
    "net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "sb-1\t0000C80A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
    "net/dev": "Inter-|   Receive                            |  Transmit\n"
    " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier\n"
    "  sb-1: 1 1 0 99 0 0 0 0 1 1 0 99 0 0 0 0\n"
    "  eth0: 100 10 0 3 0 0 0 0 200 20 0 4 0 0 0 0\n",
    "sys/net/netfilter/nf_conntrack_count": "513\n",
    "sys/net/netfilter/nf_conntrack_max": "262144\n",
    "net/stat/nf_conntrack": "entries  clashres found drop early_drop\n"
    "00000201  00000000 0000000b 0000000a 00000001\n00000201  00000000 00000001 00000010 00000000\n",
}
SPACE = os.statvfs_result((4096, 4096, 1000, 600, 500, 100, 90, 90, 0, 255))
ENDS = "notAfter=Mar  1 12:00:00 2027 GMT"
NOT_AFTER = 1803902400.0
CERTIFICATE = f"subject=CN = *.example.com\nnotBefore=Jan  1 12:00:00 2027 GMT\n{ENDS}\n"


@dataclass
class Observed:
    """The daemon on its sockets, and how often the certificate was looked at."""

    client: Client
    world: World
    root: Path
    looks: list[str] = field(default_factory=list)

    def samples(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """All samples of a scrape by the socket, by name and labels."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(self.client.unix.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        return self.samples()[name][tuple(sorted(labels.items()))]

    def errors(self) -> list[str]:
        """The parts that could not be read."""
        return [dict(labels)["part"] for labels, value in self.samples()["sandboxd_scrape_error"].items() if value]


@pytest.fixture
def observed(world: World, tmp_path: Path) -> Iterator[Observed]:
    for name, text in PROC.items():
        file = tmp_path / "proc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    looks = list[str]()

    def certificate(_: tuple[str, int], name: str) -> bytes:
        looks.append(name)
        if (tmp_path / "down").exists():
            raise ConnectionRefusedError("nobody there")
        return b"der"

    effects = Effects(
        root=tmp_path,
        run=lambda *_: Output(0, CERTIFICATE),
        certificate=certificate,
        space=lambda _: SPACE,
    )
    made = Client(world, effects)
    yield Observed(made, world, tmp_path, looks)
    made.close()
