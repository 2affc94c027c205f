"""Who is at the other end of a Unix socket."""

import os
import pwd

from sandboxd.peers import UID, uid_of, user_name


def test_names_of_users() -> None:
    uid = os.getuid()
    assert user_name(uid) == pwd.getpwuid(uid).pw_name and user_name(4_000_000_000) == ""


def test_a_request_that_says_nothing_has_no_user() -> None:
    """That the kernel is asked is seen in the records of requests: test_observed."""
    assert uid_of({"type": "http"}) is None and uid_of({"state": {}}) is None
    assert uid_of({"state": {UID: 1000}}) == 1000
