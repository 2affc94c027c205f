"""The double of the scheduler keeps the contract that a real fleet engine keeps."""

import pytest

from tests.unit.fleet.contract import Contract
from tests.unit.fleet.memory_leases import MemoryLeases


class TestMemoryLeases(Contract):
    @pytest.fixture
    def leases(self) -> MemoryLeases:
        return MemoryLeases({"a": "manager", "b": "worker"})
