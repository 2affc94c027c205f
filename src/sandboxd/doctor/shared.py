"""The check of the storage that all hosts of a fleet have mounted."""

from sandboxd.doctor.findings import Verdict, fail, ok, skip
from sandboxd.doctor.readers import Readers
from sandboxd.errors import HostError


def storage(readers: Readers) -> Verdict:
    """It answers, something is mounted, and it is the storage that this host had before."""
    store = readers.sandboxes.shared.store
    if store is None:
        return skip("none: the setting shared_storage")
    try:
        mark = store.identity()
    except HostError as error:
        return fail(str(error), f"findmnt {store.directory}; docs/fleet.md; kept sandboxes wait for it")
    return ok(f"{store.directory} answers, with the mark {mark}")
