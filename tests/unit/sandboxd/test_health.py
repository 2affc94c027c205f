"""What is wrong with the host: reported, logged once, and over."""

import pytest

from sandboxd.health import Health


def test_a_trouble_is_logged_once_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    health = Health()
    for trouble in ("full", "full", "", ""):
        health.report("disk", trouble)
    assert [record.getMessage() for record in caplog.records] == ["disk: full", "disk: well again"]
    assert health.troubles() == {}


def test_another_trouble_of_the_same_source_replaces_it_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    health.report("disk", "full")
    health.report("disk", "gone")
    assert health.troubles() == {"disk": "gone"}
    assert [record.getMessage() for record in caplog.records] == ["disk: full", "disk: gone"]


def test_a_source_that_is_no_more_is_not_well_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    health = Health()
    health.report("sandbox 1", "dead")
    health.forget("sandbox 1")
    health.forget("sandbox 1")
    assert health.troubles() == {} and "well again" not in caplog.text


def test_what_was_asked_for_is_a_copy() -> None:
    health = Health()
    health.troubles()["disk"] = "full"
    assert health.troubles() == {}
