"""Names that lead here, and those that do not; and what is said about records."""

import json
from dataclasses import replace

import pytest

from sandboxd.doctor import names
from sandboxd.doctor.effects import Output
from sandboxd.doctor.names import addresses, own_addresses, source
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd.doctor.conftest import ADDRESS, FakeHost
from tests.unit.sandboxd.doctor.test_engine import check


def test_a_name_that_leads_here(readers: Readers) -> None:
    verdict = names.dns(readers)
    assert verdict.level == "ok" and verdict.seen.endswith(f".example.com is {ADDRESS} (resolver: 192.0.2.53, ::1)")


def test_a_name_without_address(readers: Readers, host: FakeHost) -> None:
    host.outputs["getent ahosts "] = Output(2, "")
    verdict = names.dns(readers)
    check(verdict, "warn", "has no address (resolver: 192.0.2.53, ::1)", "look with: getent ahosts doctor-")
    public = f"*.example.com A <the public address that leads to {ADDRESS}>"
    assert f"make the record {public} and *.example.com AAAA 2a01:4f8::7;" in verdict.remedy, "a network of RFC 5737"


def test_records_of_a_host_with_a_public_address_of_one_kind(readers: Readers, host: FakeHost) -> None:
    host.outputs["ip -json -4 route get "] = Output(0, json.dumps([{"prefsrc": "5.9.1.7"}]))
    host.outputs["ip -json -6 route get "] = Output(2, "RTNETLINK answers: Network is unreachable")
    assert names.needed(readers) == "make the record *.example.com A 5.9.1.7"


def test_records_of_a_host_that_reaches_nothing(readers: Readers, host: FakeHost) -> None:
    for family in ("-4", "-6"):
        host.outputs[f"ip -json {family} route get "] = Output(2, "RTNETLINK answers: Network is unreachable")
    assert names.needed(readers) == "make the record *.example.com A <the public address that leads to this host>"


def test_names_by_address_need_another_resolver(readers: Readers, host: FakeHost) -> None:
    host.outputs["getent ahosts "] = Output(2, "")
    readers.sandboxes.config = replace(readers.config, domain="203-0-113-7.sslip.io")
    check(names.dns(readers), "warn", "203-0-113-7.sslip.io has no address", "ask another resolver")


def test_a_host_without_resolver(readers: Readers, host: FakeHost) -> None:
    (host.root / "etc/resolv.conf").unlink()
    assert names.dns(readers).seen.endswith("(resolver: none)")


def test_an_address_of_another_host(readers: Readers, host: FakeHost) -> None:
    host.outputs["getent ahosts "] = Output(0, f"198.51.100.9 STREAM x\n{ADDRESS} STREAM x\n")
    check(names.dns(readers), "warn", "is 198.51.100.9, where this host does not answer (resolver: ", "make the record")
    host.served["198.51.100.9"] = b"another certificate"
    assert names.dns(readers).level == "warn"


def test_a_translated_address_where_this_host_answers(readers: Readers, host: FakeHost) -> None:
    host.outputs["getent ahosts "] = Output(0, "198.51.100.9 STREAM x\n")
    host.served["198.51.100.9"] = b"der"
    assert names.dns(readers).level == "ok"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_name_that_leads_each_client_to_itself(readers: Readers, host: FakeHost, address: str) -> None:
    host.outputs["getent ahosts "] = Output(0, f"{address} STREAM x\n")
    assert names.dns(readers).level == "warn"


def test_tools_that_are_missing(readers: Readers, host: FakeHost) -> None:
    missing = Output(127, "ip is not installed")
    assert addresses(missing) == [] and own_addresses(missing) == set() and source(missing) == ""


def test_addresses_once_each() -> None:
    assert addresses(Output(0, "1.2.3.4 STREAM a\n1.2.3.4 DGRAM\n::5 STREAM\n\n")) == ["1.2.3.4", "::5"]
    links = [{"addr_info": [{"local": "1.2.3.4"}, {}]}, {}]
    assert own_addresses(Output(0, json.dumps(links))) == {"1.2.3.4"}
