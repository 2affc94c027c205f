"""The rules and parameters in a sandbox's network namespace."""

import pytest

from sandboxd import netns
from sandboxd.errors import EngineError


def test_the_rule_lets_in_the_gateways_address_only() -> None:
    command = netns.dnat_command(42, "10.200.0.1", "-A")
    assert command[:5] == ["nsenter", "-t", "42", "-n", "iptables"]
    assert " ".join(command).endswith(
        "-t nat -A PREROUTING -i eth0 -s 10.200.0.1 -p tcp -m addrtype --dst-type LOCAL"
        " -j DNAT --to-destination 127.0.0.1"
    )


@pytest.mark.parametrize(("codes", "verbs"), [([0], ["-C"]), ([1, 0], ["-C", "-A"])])
def test_it_is_added_once(codes: list[int], verbs: list[str]) -> None:
    seen: list[list[str]] = []

    def run(command: list[str]) -> int:
        seen.append(command)
        return codes[len(seen) - 1]

    netns.ensure_dnat(42, "10.200.0.1", run)
    assert seen == [netns.dnat_command(42, "10.200.0.1", verb) for verb in verbs]


def test_a_refusal_names_the_command() -> None:
    with pytest.raises(EngineError, match=r"iptables .* ended with 3. Run it by hand"):
        netns.ensure_dnat(42, "10.200.0.1", lambda command: 3)


def test_a_missing_program_is_named() -> None:
    assert netns.run(["true"]) == 0 and netns.run(["false"]) == 1
    with pytest.raises(EngineError, match="no-such-program"):
        netns.run(["no-such-program"])


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "TIMEOUT_S", 0.05)
    with pytest.raises(EngineError, match=r"sleep 30: .*timed out"):
        netns.run(["sleep", "30"])


def test_the_look_and_the_rule_differ_in_the_verb_only() -> None:
    """Else the rule would be added again at every start."""
    look, add = (netns.dnat_command(42, "10.200.0.1", verb) for verb in ("-C", "-A"))
    assert [pair for pair in zip(look, add, strict=True) if pair[0] != pair[1]] == [("-C", "-A")]


def test_names_are_refused_by_dockers_resolver() -> None:
    command = netns.names_command(42, "-A")
    assert command[:5] == ["nsenter", "-t", "42", "-n", "iptables"]
    assert " ".join(command).endswith("-A OUTPUT -d 127.0.0.11 -j REJECT")


@pytest.mark.parametrize(
    ("there", "shut", "verbs"),
    [(False, True, ["-C", "-A"]), (True, True, ["-C"]), (True, False, ["-C", "-D"]), (False, False, ["-C"])],
)
def test_names_are_shut_and_opened_once(there: bool, shut: bool, verbs: list[str]) -> None:
    seen: list[list[str]] = []

    def run(command: list[str]) -> int:
        seen.append(command)
        return 0 if there or len(seen) > 1 else 1

    netns.ensure_names(42, shut, run)
    assert seen == [netns.names_command(42, verb) for verb in verbs]


def test_a_refusal_to_shut_names_names_the_command() -> None:
    with pytest.raises(EngineError, match=r"iptables .* ended with 3. Run it by hand"):
        netns.ensure_names(42, True, lambda command: 3)


def test_parameters_that_a_runtime_has_not_set() -> None:
    seen: list[list[str]] = []

    def run(command: list[str]) -> int:
        seen.append(command)
        return 0

    netns.set_sysctls(42, {"a.b": "1", "c": "0 65535"}, run)
    assert seen == [netns.sysctl_command(42, "a.b", "1"), netns.sysctl_command(42, "c", "0 65535")]
    assert " ".join(seen[1]).endswith("nsenter -t 42 -n sysctl --quiet --write c=0 65535")
    with pytest.raises(EngineError, match=r"sysctl .* ended with 1"):
        netns.set_sysctls(42, {"a": "1"}, lambda command: 1)
