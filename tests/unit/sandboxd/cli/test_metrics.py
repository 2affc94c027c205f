"""`docker-sandbox metrics`: the page of the daemon."""

from tests.unit.sandboxd.cli.doubles import Cli


def test_the_page_is_printed_as_it_is(used: Cli) -> None:
    text = used.out("metrics")
    assert 'sandbox_instances{state="running",template="base"} 1.0\n' in text
    assert text.startswith("# HELP ") and text.endswith("\n") and not text.endswith("\n\n")
