"""The checks of the firewall and of the egress proxy."""

from dataclasses import replace

from sandboxd.doctor import firewall
from sandboxd.doctor.readers import Readers
from sandboxd.egress import OPEN, Egress
from sandboxd.errors import HostError
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy


def test_one_that_is_up(readers: Readers) -> None:
    verdict = firewall.standing(readers)
    assert (verdict.level, verdict.seen) == (
        "ok",
        "up; the network of a sandbox is public unless it is asked for otherwise",
    )


def test_rules_that_are_gone(readers: Readers, world: World) -> None:
    world.nft.flush()
    verdict = firewall.standing(readers)
    assert verdict.level == "fail" and "those that all share and those of 2 sandboxes" in verdict.seen
    assert "systemctl restart acme-firewall acme-sandboxd.service" in verdict.remedy
    assert world.nft.chains == {}, "it only looks"
    world.sandboxes.guard.mend()
    world.nft.routing.clear()
    assert "routing rules: 93: from all nop" in firewall.standing(readers).seen


def test_a_host_that_does_not_tell(readers: Readers, world: World) -> None:
    world.nft.fail = HostError("nft: cannot be run")
    verdict = firewall.standing(readers)
    assert (verdict.level, verdict.seen) == ("fail", "nft: cannot be run")


def test_a_host_whose_sandboxes_pass_it(readers: Readers) -> None:
    opened = replace(readers.config, egress=Egress(mode=OPEN))
    object.__setattr__(readers.sandboxes, "config", opened)
    verdict = firewall.standing(readers)
    assert verdict.level == "warn" and "sandbox_network" in verdict.seen


def test_a_proxy_that_runs(readers: Readers, proxy: FakeHaproxy) -> None:
    verdict = firewall.proxy(readers)
    assert (verdict.level, verdict.seen) == ("ok", "at 198.18.0.1; 0 sandboxes have names in their allow list")


def test_a_proxy_that_lets_through_what_it_should_not(readers: Readers, proxy: FakeHaproxy) -> None:
    proxy.map = [("10.200.7.7", "x|example.com")]
    verdict = firewall.proxy(readers)
    assert (verdict.level, verdict.seen) == ("fail", "stale: 10.200.7.7")
    assert verdict.remedy.startswith("systemctl restart acme-egress acme-sandboxd.service")


def test_a_proxy_that_is_down_or_whose_user_is_missing(readers: Readers, world: World, proxy: FakeHaproxy) -> None:
    proxy.stop()
    verdict = firewall.proxy(readers)
    assert verdict.level == "fail" and "the egress proxy does not answer" in verdict.seen
    (world.mounts.root / "etc/passwd").write_text("")
    verdict = firewall.proxy(readers)
    assert verdict.level == "fail" and "no user acme-egress" in verdict.seen and "deploy again" in verdict.remedy
