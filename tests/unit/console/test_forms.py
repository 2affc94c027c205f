"""What a form may send."""

import pytest

from console.forms import MAX_BYTES
from tests.unit.console.conftest import Console

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"key=" + b"x" * MAX_BYTES, FORM, 413),
        (b"key=\xff\xfe", FORM, 400),
        (b"key=%ff", FORM, 400),
        (b"key=a%00b", FORM, 400),
        (b"&".join(b"k%d=" % number for number in range(60)), FORM, 400),
        (b'{"key": "x"}', "application/json", 415),
        (b"--x\r\n", "multipart/form-data; boundary=x", 415),
        (b"", "", 415),
        (b"", FORM, 400),
    ],
)
def test_what_is_no_form_of_ours_is_refused(console: Console, content: bytes, kind: str, status: int) -> None:
    answer = console.client.post("/sign-in", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status and "</html>" in answer.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "x" * 129}, "129 characters"),
        ({"timeout": "1"}, "none of the times"),
        ({"timeout": ""}, "none of the times"),
        ({"timeout": "1e9999"}, "none of the times"),
        ({"template": "<b>no</b>"}, "template &#39;&lt;b&gt;no&lt;/b&gt;&#39; not found"),
        ({"template": "x" * 3000}, "not found"),
    ],
)
def test_bad_fields_of_a_new_sandbox(console: Console, fields: dict[str, str], said: str) -> None:
    browser = console.browser()
    answer = browser.send("/new", False, **{"template": "base", "name": "", "timeout": "900", **fields})
    assert 400 <= answer.status_code < 500 and said in answer.text and "<b>no</b>" not in answer.text
    assert console.world.ledger.rows("running") == []
