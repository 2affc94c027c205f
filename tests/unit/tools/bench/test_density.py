"""Memory as the kernel tells it."""

import os
from pathlib import Path

from tools.bench.host.density import owning, pss_bytes

ROLLUP = """55d0 ---p 00000000 00:00 0 [rollup]
Rss:               20480 kB
Pss:               10240 kB
Pss_Dirty:          5120 kB
"""


def test_pss_is_read_in_bytes() -> None:
    assert pss_bytes(ROLLUP) == 10240 * 1024
    assert pss_bytes("") == 0


def test_this_kernel_writes_it_so() -> None:
    assert pss_bytes(Path(f"/proc/{os.getpid()}/smaps_rollup").read_text()) > 0


def test_a_control_group_names_its_container() -> None:
    ids = ["a" * 64, "b" * 64]
    assert owning(f"0::/system.slice/docker-{'b' * 64}.scope\n", ids) == "b" * 64
    assert owning("0::/init.scope\n", ids) == ""
