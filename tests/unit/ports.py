"""An address at which nobody is."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nobody() -> Iterator[tuple[str, int]]:
    """Whoever connects there is refused. The port is ours in the block, so that no other test gets it and listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address: tuple[str, int] = taken.getsockname()
        yield address
