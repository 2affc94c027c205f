"""Parts of a file, as values."""

import pytest

from envd.errors import EnvdError
from envd.ranges import Span, check_encoding, last_modified, wanted_span

MTIME_S = 1_700_000_000.9
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-3", (0, 4)),
        ("bytes=2-", (2, 8)),
        ("bytes=9-9", (9, 1)),
        ("bytes=5-1000", (5, 5)),
        ("bytes=-3", (7, 3)),
        ("bytes=-1000", (0, 10)),
        ("bytes=0-1,4-5", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=x-", None),
        ("bytes=0-" + "9" * 5000, (0, 10)),
        ("bytes=" + "0" * 5000 + "2-3", (2, 2)),
        ("bytes=-" + "9" * 5000, (0, 10)),
        ("bytes=\u0662-", None),
        ("lines=0-3", None),
    ],
)
def test_what_is_wanted(header: str | None, span: Span | None) -> None:
    assert wanted_span(header, None, 10, MTIME_S) == span


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_behind_the_end(header: str) -> None:
    with pytest.raises(EnvdError) as raised:
        wanted_span(header, None, 10, MTIME_S)
    assert (raised.value.status, raised.value.headers) == (416, {"content-range": "bytes */10"})
    assert wanted_span(header, None, 0, MTIME_S) is None


@pytest.mark.parametrize(("mtime_s", "year"), [(2.0**62, "9999"), (-(2.0**62), "1970")])
def test_a_date_has_four_digits_of_a_year(mtime_s: float, year: str) -> None:
    assert last_modified(mtime_s).split()[3] == year


def test_a_changed_file_is_sent_whole() -> None:
    assert last_modified(MTIME_S) == DATE
    assert wanted_span("bytes=0-3", DATE, 10, MTIME_S) == (0, 4)
    assert wanted_span("bytes=0-3", DATE, 10, MTIME_S + 1) is None
    assert wanted_span("bytes=0-3", '"etag"', 10, MTIME_S) is None


@pytest.mark.parametrize("header", [None, "", "gzip, deflate", "gzip;q=1.0, *;q=0.5", "identity, *;q=0", "gzip;q=0"])
def test_encodings_that_let_a_file_be_as_it_is(header: str | None) -> None:
    check_encoding(header)


@pytest.mark.parametrize("header", ["identity;q=0", "gzip, identity; q=0.000", "gzip, *;q=0"])
def test_encodings_that_do_not(header: str) -> None:
    with pytest.raises(EnvdError) as raised:
        check_encoding(header)
    assert raised.value.status == 406
