"""What a failed system call means to a client: one wording for RPC (Go's, as E2B has it), one for /files."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from envd.errors import EnvdError, invalid_argument, no_space, not_found

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ETXTBSY)
_BAD_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)


def rpc_error(error: OSError) -> EnvdError:
    """The answer of filesystem.Filesystem."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.ENOENT:
        return not_found(f"file not found: lstat {error.filename}: {reason}")
    return _by_kind(error, f"{error.filename}: {reason}")


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Raise what /files answers for an OSError about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise not_found(f"path '{path}' does not exist") from error
        if error.errno == errno.EISDIR:
            raise invalid_argument(f"path '{path}' is a directory") from error
        if error.errno == errno.ENXIO:  # a FIFO without a reader, or a socket
            raise invalid_argument(f"path '{path}' is not a regular file") from error
        raise _by_kind(error, f"path '{path}': {error.strerror}") from error


def _by_kind(error: OSError, message: str) -> EnvdError:
    if error.errno in _NO_SPACE:
        return no_space()
    if error.errno in _DENIED:
        return EnvdError("permission_denied", message)
    if error.errno in _BAD_PATH:
        return invalid_argument(message)
    return EnvdError("internal", message)
