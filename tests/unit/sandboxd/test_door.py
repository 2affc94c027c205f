"""The address of the egress proxy on the host's loopback."""

import pytest

from sandboxd import door
from sandboxd.errors import HostError
from sandboxd.wall import Door
from tests.unit.sandboxd.fake_host import FakeNft

HERE = Door("198.18.0.1", 998)
SHOWN = "1: lo    inet 198.18.0.1/32 scope host lo:egress\\       valid_lft forever preferred_lft forever\n"


def test_it_is_made_once() -> None:
    nft = FakeNft()
    assert door.ensure(HERE, nft.run) and nft.addresses == ["198.18.0.1"]
    assert not door.ensure(HERE, nft.run) and nft.addresses == ["198.18.0.1"] == door.standing(nft.run)


def test_that_of_another_setting_goes() -> None:
    nft = FakeNft()
    nft.addresses = ["192.0.2.1"]
    assert door.ensure(HERE, nft.run) and nft.addresses == ["198.18.0.1"]


def test_the_words_of_ip() -> None:
    done = []

    def run(command: list[str], text: str) -> str:
        done.append(" ".join(command))
        return SHOWN if "show" in command else ""

    assert door.standing(run) == ["198.18.0.1"]
    assert door.ensure(Door("192.0.2.1", None), run)
    assert done[2:] == [
        "ip -4 address add 192.0.2.1/32 dev lo scope host label lo:egress",
        "ip -4 address del 198.18.0.1/32 dev lo",
    ]


@pytest.mark.parametrize("after", [SHOWN, ""])
def test_somebody_else_may_be_faster(after: str) -> None:
    shown = [after, ""]

    def run(command: list[str], text: str) -> str:
        if "show" in command:
            return shown.pop()
        raise HostError("Error: ipv4: Address already assigned.")

    if after:
        assert door.ensure(HERE, run)
    else:
        with pytest.raises(HostError, match="already"):
            door.ensure(HERE, run)
