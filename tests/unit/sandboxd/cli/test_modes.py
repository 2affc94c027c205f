"""What a program leaves behind in a terminal, and what brings that to rest."""

import pytest

from sandboxd.cli.modes import PLAIN, Modes


def farewell(*output: bytes) -> bytes:
    modes = Modes()
    for piece in output:
        modes.note(piece)
    return modes.farewell()


def test_plain_text_leaves_nothing_but_a_line() -> None:
    """A terminal that knows no sequences gets none."""
    assert farewell(b"text\r\n", b"$ ") == b"\r\n"
    assert farewell() == b"\r\n"


def test_what_is_on_is_switched_off() -> None:
    vim = b"\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[1;24r\x1b[?25l"
    assert farewell(vim) == b"\x1b[?1l\x1b[?1049l\x1b[?1004l\x1b[?2004l\x1b[?25h" + PLAIN + b"\r\n"


def test_what_was_switched_off_again_is_left_alone() -> None:
    assert farewell(b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h", b"\x1b[?1049l") == PLAIN + b"\r\n"


def test_several_modes_in_one_sequence_and_modes_that_do_not_matter() -> None:
    assert farewell(b"\x1b[?1000;1006;12;69h") == b"\x1b[?1000l\x1b[?1006l" + PLAIN + b"\r\n"


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_sequence_in_two_pieces(cut: int) -> None:
    output = b"abc\x1b[?1049h"
    assert farewell(output[: 3 + cut], output[3 + cut :]) == b"\x1b[?1049l" + PLAIN + b"\r\n"


def test_a_sequence_byte_by_byte_and_an_escape_that_begins_none() -> None:
    output = b"\x1b\x1b[31mred\x1b[?25l" + b"x" * 1000
    assert farewell(*(bytes([byte]) for byte in output)) == b"\x1b[?25h" + PLAIN + b"\r\n"
