"""For all tests: signals as a terminal has them, bytecode that is kept, and the order of work of several workers."""

import os
import signal
import sys

import pytest

# A background job of a shell has SIGINT ignored, what nohup starts SIGHUP; so would all that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Images of containers like to set it. Then each process of each test would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as cores: half of the time a test waits, for a process to start or a kernel to answer."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What one worker does alone comes first: at the end the others would have nothing to do but wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
