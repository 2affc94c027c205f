import pytest

from envd.envelopes import FLAG_END, EnvelopeReader, envelope
from envd.errors import EnvdError


def test_messages_survive_any_cutting() -> None:
    stream = envelope(b"one") + envelope(b"") + envelope(b"{}", FLAG_END)
    reader = EnvelopeReader()
    found = [payload for position in range(len(stream)) for payload in reader.feed(stream[position : position + 1])]
    reader.close()
    assert found == [b"one", b""]
    assert EnvelopeReader().feed(stream) == found


def test_a_cut_message_is_noticed() -> None:
    reader = EnvelopeReader()
    assert reader.feed(envelope(b"one")[:-1]) == []
    with pytest.raises(EnvdError, match="ends inside a message"):
        reader.close()


def test_compression_and_giants_are_refused_by_their_head() -> None:
    with pytest.raises(EnvdError, match="compressed"):
        EnvelopeReader().feed(b"\x01\0\0\0\x02")
    with pytest.raises(EnvdError, match="larger than") as error:
        EnvelopeReader().feed(b"\0\xff\xff\xff\xff")
    assert error.value.code == "resource_exhausted"
