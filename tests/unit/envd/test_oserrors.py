import errno
import os

import pytest

from envd.errors import EnvdError
from envd.oserrors import file_errors, rpc_error


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (errno.ENOENT, "not_found", 404),
        (errno.EACCES, "permission_denied", 403),
        (errno.EPERM, "permission_denied", 403),
        (errno.EROFS, "permission_denied", 403),
        (errno.ENOTDIR, "invalid_argument", 400),
        (errno.EISDIR, "invalid_argument", 400),
        (errno.ENAMETOOLONG, "invalid_argument", 400),
        (errno.ENOSPC, "resource_exhausted", 507),
        (errno.EDQUOT, "resource_exhausted", 507),
        (errno.EIO, "internal", 500),
    ],
)
def test_each_failure_has_its_code(number: int, code: str, status: int) -> None:
    failure = OSError(number, os.strerror(number), "/a")
    assert (rpc_error(failure).code, rpc_error(failure).status) == (code, status)
    with pytest.raises(EnvdError) as error, file_errors("/a"):
        raise failure
    assert (error.value.code, error.value.status) == (code, status)


def test_the_words_that_clients_know() -> None:
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/a")
    assert rpc_error(missing).message == "file not found: lstat /a: no such file or directory"
    with pytest.raises(EnvdError, match=r"^path '/a' does not exist$"), file_errors("/a"):
        raise missing
    with pytest.raises(EnvdError, match=r"^not enough disk space available$"), file_errors("/a"):
        raise OSError(errno.ENOSPC, "No space left on device")
