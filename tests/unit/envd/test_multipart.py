import pytest

from envd.errors import EnvdError
from envd.multipart import Data, Event, MultipartParser, Part, PartEnd, boundary_of

BODY = (
    b"preamble\r\n--B\r\n"
    b'Content-Disposition: form-data; name="file"; filename="/home/user/a%22b.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"one\r\n--not the boundary\r\n\r\n--B \r\n"
    b"content-disposition: form-data; name=other\r\n\r\n\r\n--B\r\n\r\n\xff\0\r\n--B--\r\nepilogue"
)


def merged(events: list[Event]) -> list[Event]:
    result: list[Event] = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(last := result[-1], Data):
            result[-1] = Data(last.content + event.content)
        else:
            result.append(event)
    return result


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_parts_survive_any_cutting(size: int) -> None:
    parser = MultipartParser(b"B")
    events = [e for at in range(0, len(BODY), size) for e in parser.feed(BODY[at : at + size])]
    parser.close()
    assert merged(events) == [
        Part("file", '/home/user/a"b.txt'),
        Data(b"one\r\n--not the boundary\r\n"),
        PartEnd(),
        Part("other", None),
        PartEnd(),
        Part(None, None),
        Data(b"\xff\0"),
        PartEnd(),
    ]


def test_the_full_path_and_utf8_of_a_file_name_are_kept() -> None:
    head = 'Content-Disposition: form-data; name="file"; filename="/tmp/ü;x/../%41"'
    events = MultipartParser(b"B").feed(b"--B\r\n" + head.encode() + b"\r\n\r\n")
    assert events == [Part("file", "/tmp/ü;x/../%41")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [(r"/a\\b", r"/a\b"), (r"C:\dev\x", r"C:\dev\x"), (r"/a\"b;c", '/a"b;c'), (r"/a\\", "/a\\")],
)
def test_backslashes_in_a_file_name(written: str, meant: str) -> None:
    head = f'Content-Disposition: form-data; name="file"; filename="{written}"'
    assert MultipartParser(b"B").feed(b"--B\r\n" + head.encode() + b"\r\n\r\n") == [Part("file", meant)]


def test_a_body_without_its_end_is_noticed() -> None:
    parser = MultipartParser(b"B")
    parser.feed(BODY[:-20])
    with pytest.raises(EnvdError, match="ends before its closing boundary"):
        parser.close()


def test_it_holds_little() -> None:
    parser = MultipartParser(b"B")
    with pytest.raises(EnvdError, match="head of a part is larger"):
        parser.feed(b"--B\r\n" + b"x" * 100_000)
    with pytest.raises(EnvdError, match="unexpected bytes after a boundary"):
        MultipartParser(b"B").feed(b"--Bxyz\r\n")


def test_the_boundary() -> None:
    assert boundary_of("multipart/form-data; boundary=abc") == b"abc"
    assert boundary_of('multipart/form-data; charset=utf-8; Boundary="a b"') == b"a b"
    with pytest.raises(EnvdError, match="has no boundary"):
        boundary_of("multipart/form-data")
