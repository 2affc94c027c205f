"""Checks of the way in, healthy and not."""

import pytest

from sandboxd.doctor import edge
from sandboxd.doctor.effects import Answer, Output
from sandboxd.doctor.readers import Readers
from sandboxd.engine import Container
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.doctor.conftest import CERTIFICATE, DAY_S, FakeHost, Look
from tests.unit.sandboxd.doctor.test_engine import check, with_wanted
from tests.unit.sandboxd.fake_engine import START, down

ALL = (edge.gateway, edge.routes, edge.console, edge.traefik, edge.certificate, edge.certificate_life)


@pytest.mark.parametrize("look", ALL)
def test_a_healthy_host(readers: Readers, look: Look) -> None:
    assert look(readers).level == "ok"


def test_the_gateway_is_asked_for_a_sandbox_that_is_not_there(readers: Readers, host: FakeHost) -> None:
    edge.gateway(readers)
    (name,) = host.hosts
    assert name.startswith("qa-") and name.endswith(".example.com")


def test_a_gateway_that_takes_no_commands(readers: Readers, world: World) -> None:
    world.haproxy.stop()
    check(edge.gateway(readers), "fail", "does not answer on", "systemctl restart haproxy")


@pytest.mark.parametrize("answer", [Answer(503, b""), Answer(502, b"Bad Gateway"), Answer(200, b"hello")])
def test_a_gateway_that_is_not_ours(readers: Readers, host: FakeHost, answer: Answer) -> None:
    host.answers[False] = answer
    check(edge.gateway(readers), "fail", f"answers {answer.status} for an unknown sandbox", "make deploy")


def test_a_gateway_that_does_not_listen(readers: Readers, host: FakeHost) -> None:
    host.answers[False] = ConnectionRefusedError(111, "Connection refused")
    check(edge.gateway(readers), "fail", "127.0.0.1:8081 does not answer", "journalctl -u haproxy")


def test_routes_that_are_out_of_step(readers: Readers, world: World) -> None:
    row = world.sandboxes.create(world.config.templates["base"], Claim())
    assert edge.routes(readers).seen.startswith("1 routes")
    world.haproxy.map = [("stale", "10.0.0.1")]
    check(edge.routes(readers), "fail", f"missing: {row.id}; stale: stale", "docker-sandbox routes sync")


def test_the_console(readers: Readers, host: FakeHost) -> None:
    host.console = Answer(503, b"")
    check(edge.console(readers), "fail", "console.example.com answers 503", "systemctl restart acme-console.socket")
    host.console = ConnectionResetError("reset")
    check(edge.console(readers), "fail", "does not answer for console.example.com: reset", "journalctl -u acme-console")
    assert edge.console(with_wanted(readers, console=False)).level == "skip"


def traefik_container(running: bool) -> Container:
    return Container("t", "traefik", "sha256:1", running, False, 0, "", "", "", "exit code 1")


@pytest.mark.parametrize(
    ("container", "remedy"),
    [
        (None, "make deploy"),
        (traefik_container(False), "docker restart traefik"),
        (traefik_container(True), "docker logs"),
    ],
)
def test_traefik_that_does_not_answer(
    readers: Readers, host: FakeHost, world: World, container: Container | None, remedy: str
) -> None:
    host.served["127.0.0.1"] = ConnectionRefusedError(111, "Connection refused")
    if container:
        world.engine.containers["traefik"] = container
    check(edge.traefik(readers), "fail", "127.0.0.1:443: [Errno 111] Connection refused", remedy)


def test_traefik_that_orders_certificates_has_a_log_of_its_own(readers: Readers, host: FakeHost) -> None:
    host.served["127.0.0.1"] = ConnectionRefusedError(111, "Connection refused")
    check(edge.traefik(with_wanted(readers, tls_mode="acme")), "fail", "refused", "acme/traefik.log; deploy again")


def test_traefik_and_docker_that_do_not_answer(readers: Readers, host: FakeHost, world: World) -> None:
    host.served["127.0.0.1"] = ConnectionRefusedError(111, "Connection refused")
    world.engine.fail["container"] = down()
    check(edge.traefik(readers), "fail", "refused", "systemctl restart docker")


@pytest.mark.parametrize("mode", ["internal", "files", "acme"])
def test_a_certificate_for_somebody_else(readers: Readers, host: FakeHost, mode: str) -> None:
    default = "subject=CN=TRAEFIK DEFAULT CERT\n" + CERTIFICATE.split("\n", 1)[1].replace(
        "example.com", "traefik.default"
    )
    host.outputs["openssl x509 "] = Output(0, default)
    verdict = edge.certificate(with_wanted(readers, tls_mode=mode))
    check(
        verdict, "fail", "TRAEFIK DEFAULT CERT: for *.traefik.default, traefik.default, not for *.example.com", "deploy"
    )
    assert verdict.remedy == edge.CERTIFICATE_REMEDIES[mode]


def test_a_certificate_for_the_domain_alone(readers: Readers, host: FakeHost) -> None:
    host.outputs["openssl x509 "] = Output(0, CERTIFICATE.replace("DNS:*.example.com, ", ""))
    assert edge.certificate(readers).level == "fail"


@pytest.mark.parametrize(
    ("days", "level", "seen"),
    [
        (0, "ok", "ends in 90 days; issued by CN=acme internal CA"),
        (76, "ok", "ends in 14 days"),
        (77, "warn", "ends in 13 days"),
        (91, "fail", "ended 1 days ago"),
        (-6, "fail", "is the clock right?"),
    ],
)
def test_the_life_of_the_certificate(readers: Readers, world: World, days: int, level: str, seen: str) -> None:
    world.now[0] = START + days * DAY_S
    verdict = edge.certificate_life(readers)
    assert (verdict.level, seen in verdict.seen, bool(verdict.remedy)) == (level, True, level != "ok"), verdict


def test_a_certificate_that_openssl_does_not_read(readers: Readers, host: FakeHost) -> None:
    host.outputs["openssl x509 "] = Output(1, "unable to load certificate\n")
    with pytest.raises(OSError, match="openssl does not read the certificate: unable to load certificate"):
        edge.certificate(readers)
