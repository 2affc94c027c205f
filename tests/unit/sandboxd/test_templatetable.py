"""What is entered as unused when templates, tags and builds change: just what nothing names any more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.config import Template
from sandboxd.errors import Conflict, NotFound
from sandboxd.ledger import Ledger
from sandboxd.records import MadeTemplate

BASE = Template("base", "base:1", 2048, 2.0, 1024, 10240, 10240)


def made(image: str, name: str = "tools", disk_mb: int = 0) -> MadeTemplate:
    return MadeTemplate(name, image, "base", disk_mb, 1.0, 512, 1.5)


@pytest.fixture
def ledger(directory: Path) -> Iterator[Ledger]:
    opened = Ledger(directory / "l.sqlite")
    yield opened
    opened.close()


def test_a_default_build_that_is_replaced(ledger: Ledger) -> None:
    ledger.add_template(made("i:1"))
    with pytest.raises(Conflict):
        ledger.add_template(made("i:2"))
    assert ledger.unused() == {}
    ledger.set_tags("tools", ["default"], made("i:2"), 1.0)
    assert ledger.unused() == {"i:1": ""} and ledger.made_template("tools") == made("i:2")
    ledger.forget_unused("i:1")
    assert ledger.unused() == {}


def test_a_build_with_several_names(ledger: Ledger) -> None:
    ledger.set_tags("tools", ["default", "v1"], made("i:1"), 5.0)
    ledger.set_tags("tools", ["default"], made("i:2"), 6.0)
    assert ledger.unused() == {} and set(ledger.tagged("tools")) == {"tools:v1"} and ledger.tagged("too") == {}
    found = ledger.made_template("tools:v1")
    assert found == MadeTemplate("tools:v1", "i:1", "base", 0, 5.0, 512, 1.5)
    assert ledger.copy_tags("tools:v1", ["stable", "default"], 7.0).image == "i:1"
    assert ledger.unused() == {"i:2": ""} and ledger.templates()["tools"].created_at == 7
    ledger.remove_tags("tools", ["v1", "stable"])
    assert set(ledger.unused()) == {"i:2"}
    ledger.remove_template("tools")
    assert set(ledger.unused()) == {"i:1", "i:2"}


def test_what_is_refused_changes_nothing(ledger: Ledger) -> None:
    ledger.set_tags("tools", ["v1"], made("i:1"), 5.0)
    ledger.add_template(made("i:9", "snap", 100))
    with pytest.raises(NotFound, match="no tag 'v2'"):
        ledger.remove_tags("tools", ["v1", "v2"])
    with pytest.raises(NotFound, match="'tools' not found"):
        ledger.copy_tags("tools", ["v2"], 6.0)
    with pytest.raises(Conflict, match="snapshot"):
        ledger.copy_tags("snap", ["v2"], 6.0)
    with pytest.raises(NotFound):
        ledger.remove_template("nothing")
    ledger.create("s", "cold", Template(**{**vars(BASE), "name": "tools:v1"}), "sha256:1", 1.0, 100)
    with pytest.raises(Conflict, match="in use by s"):
        ledger.remove_template("tools")
    assert set(ledger.tagged()) == {"tools:v1"} and ledger.unused() == {}


def test_the_disk_of_a_snapshot_goes_with_its_image(ledger: Ledger) -> None:
    ledger.add_template(made("i:9", "snap", 100))
    ledger.remove_template("snap")
    assert ledger.unused() == {"i:9": "snap"}


def test_an_image_that_is_named_is_not_unused(ledger: Ledger) -> None:
    ledger.add_unused("i:1", "copy-1")
    assert ledger.unused() == {"i:1": "copy-1"}
    ledger.add_template(made("i:1"))
    assert ledger.unused() == {}
