"""Keys of the API."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.errors import NotFound
from sandboxd.keys import Keys
from sandboxd.ledger import Ledger
from tests.unit.sandboxd.conftest import World


def test_a_key_has_e2bs_form_and_is_found_again(world: World) -> None:
    keys = Keys(world.ledger)
    made, text = keys.create("team", 3, 5.0)
    assert re.fullmatch("e2b_[0-9a-f]{40}", text)
    assert keys.find(text) == made and (made.name, made.max_sandboxes, made.created_at) == ("team", 3, 5.0)
    assert keys.create("team", 0, 6.0)[1] != text and len(keys.all()) == 2


def test_the_key_itself_is_nowhere_in_the_ledger(world: World) -> None:
    _, text = Keys(world.ledger).create("team", 0, 1.0)
    files = [file.read_bytes() for file in world.config.ledger.parent.glob("ledger.sqlite*")]
    assert files and not any(text.encode() in content or text[4:].encode() in content for content in files)


@pytest.mark.parametrize(
    "text", ["", "e2b_", "e2b_" + "g" * 40, "e2b_" + "A" * 40, "'; DROP TABLE keys; --", "e2b_" + "0" * 40]
)
def test_what_is_no_key(world: World, text: str) -> None:
    keys = Keys(world.ledger)
    keys.create("team", 0, 1.0)
    assert keys.find(text) is None


def test_a_revoked_key_is_gone(world: World) -> None:
    keys = Keys(world.ledger)
    made, text = keys.create("team", 0, 1.0)
    keys.revoke(made.id)
    assert keys.find(text) is None and keys.all() == []
    with pytest.raises(NotFound, match="docker-sandbox key ls"):
        keys.revoke(made.id)


def test_of_many_who_ask_at_once_one_gets_the_first_key(world: World) -> None:
    """Also of several processes, each with the ledger open."""
    ledgers = [Ledger(world.config.ledger) for _ in range(8)]
    together = threading.Barrier(len(ledgers))

    def ask(ledger: Ledger) -> list[str]:
        together.wait(60)
        return [made[1] for made in (Keys(ledger).create_first("team", float(turn)) for turn in range(3)) if made]

    with ThreadPoolExecutor(len(ledgers)) as pool:
        texts = [text for found in pool.map(ask, ledgers) for text in found]
    for ledger in ledgers:
        ledger.close()
    keys = Keys(world.ledger)
    assert len(texts) == 1 and keys.all() == [keys.find(texts[0])]
    keys.revoke(keys.all()[0].id)
    assert keys.create_first("team", 9.0) is None and keys.all() == []
