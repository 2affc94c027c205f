"""What the kernel says of the host."""

from tests.unit.sandboxd.metrics.conftest import PROC, Observed


def test_memory_load_and_disks(observed: Observed) -> None:
    assert observed.value("sandbox_host_memory_available_bytes") == 3000 * 1024
    assert observed.value("sandbox_host_memory_bytes") == 4000 * 1024
    assert observed.value("sandbox_host_load", period="5m") == 1.25
    assert observed.value("sandbox_host_processors") == 2
    for place in ("sandboxes", "docker"):
        assert observed.value("sandbox_host_disk_free_bytes", place=place) == 500 * 4096
        assert observed.value("sandbox_host_disk_size_bytes", place=place) == 1000 * 4096


def test_dropped_packets_of_the_way_out_and_of_the_table_of_connections(observed: Observed) -> None:
    assert observed.value("sandbox_host_network_dropped_packets_total", direction="received") == 3
    assert observed.value("sandbox_host_network_dropped_packets_total", direction="sent") == 4
    assert observed.value("sandbox_host_connections") == 513
    assert observed.value("sandbox_host_connections_limit") == 262144
    assert observed.value("sandbox_host_connections_dropped_total") == 0x0A + 0x01 + 0x10


def test_a_host_without_a_way_out_has_no_such_series(observed: Observed) -> None:
    (observed.root / "proc/net/route").write_text(PROC["net/route"].splitlines()[0] + "\n")
    assert "sandbox_host_network_dropped_packets_total" not in observed.samples() and observed.errors() == []
