"""What a program has switched on in the terminal and did not come to switch off. Reads its output; touches nothing."""

import re

SEQUENCE = re.compile(rb"\x1b\[\?([0-9;]{1,64})([hl])")
SEQUENCE_BYTES = 70
# Private modes of terminals (xterm's ctlseqs, "DEC Private Mode Set"), and what they are in a terminal at rest.
AT_REST = {
    **dict.fromkeys((b"1", b"47", b"1047", b"1049"), b"l"),  # cursor keys of applications; the alternate screen
    **dict.fromkeys((b"9", b"1000", b"1001", b"1002", b"1003", b"1005", b"1006", b"1015", b"1016"), b"l"),  # the mouse
    **dict.fromkeys((b"1004", b"2004", b"2026"), b"l"),  # focus events, marked pastes, output that is held back
    **dict.fromkeys((b"7", b"25"), b"h"),  # lines that wrap; the cursor
}
# Keys and characters as usual, no colours; scroll the whole window, and keep the cursor where that would move it.
PLAIN = b"\x1b>\x1b(B\x1b[m\x1b7\x1b[r\x1b8"


class Modes:
    """The terminal as the output of a program has left it so far."""

    def __init__(self) -> None:
        self._modes: dict[bytes, bytes] = {}
        self._tail = b""
        self._touched = False

    def note(self, output: bytes) -> None:
        """To be told every piece of the output, in order."""
        text = self._tail + output
        self._touched = self._touched or b"\x1b" in output
        for modes, state in SEQUENCE.findall(text):
            self._modes.update(dict.fromkeys(modes.split(b";"), state))
        last = text.rfind(b"\x1b", max(0, len(text) - SEQUENCE_BYTES))
        self._tail = text[last:] if last >= 0 else b""  # perhaps the beginning of a sequence

    def farewell(self) -> bytes:
        """What brings it to rest, and the cursor to the beginning of a line."""
        wrong = [(mode, rest) for mode, rest in AT_REST.items() if self._modes.get(mode, rest) != rest]
        back = b"".join(b"\x1b[?%b%b" % pair for pair in wrong)
        return back + (PLAIN if self._touched else b"") + b"\r\n"
