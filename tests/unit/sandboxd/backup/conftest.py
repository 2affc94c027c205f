"""A host in a directory."""

from collections.abc import Iterator

import pytest

from tests.unit.sandboxd.backup.host import Host, a_host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with a_host(monkeypatch) as made:
        yield made
