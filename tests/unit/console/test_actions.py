"""What a page's buttons do, as forms and for htmx; refusals in sandboxd's own words."""

import json

import pytest

from tests.unit.console.conftest import Console


def state(console: Console, sandbox_id: str) -> str:
    return console.world.sandboxes.find(sandbox_id).state


def test_the_life_of_a_sandbox_by_forms(console: Console) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada")
    for action, becomes in (("pause", "paused"), ("resume", "running"), ("stop", "stopped"), ("start", "running")):
        answer = browser.send(f"/sandboxes/{made}/{action}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/sandboxes/{made}"), answer.text
        assert state(console, made) == becomes
    answer = browser.send(f"/sandboxes/{made}/kill")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert console.world.ledger.find(made) == []


def test_htmx_gets_a_sentence_and_the_page_looks_again(console: Console) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada", name="<i>")
    answer = browser.send(f"/sandboxes/{made}/pause", part=True)
    assert answer.status_code == 200 and answer.headers["hx-trigger"] == "changed"
    assert answer.text.strip() == (
        '<p class="good">&lt;i&gt; is paused: its processes are frozen, its memory stays.</p>'
    )
    assert 'class="badge paused"' in browser.part("/"), "what was seen before the change is not shown again"


def test_a_refusal_has_sandboxds_words(console: Console) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada")
    browser.send(f"/sandboxes/{made}/stop")
    answer = browser.send(f"/sandboxes/{made}/pause", part=True)
    assert answer.status_code == 409 and "nothing to freeze" in answer.text and 'class="bad"' in answer.text
    page = browser.send(f"/sandboxes/{made}/pause")
    assert page.status_code == 409 and "nothing to freeze" in page.text and "</html>" in page.text


@pytest.mark.parametrize(("choice", "timeout_s"), [("900", 900.0), ("86400", 86400.0), ("none", None)])
def test_another_end(console: Console, choice: str, timeout_s: float | None) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada", timeout=60)
    assert browser.send(f"/sandboxes/{made}/extend", timeout=choice).status_code == 303
    assert console.world.sandboxes.find(made).timeout_s == timeout_s


@pytest.mark.parametrize("path", ["/extend", "/disk", "/snapshots", "/network", "/resume%2f..", "/x" * 20])
def test_nothing_else_can_be_done(console: Console, path: str) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada")
    before = console.world.sandboxes.find(made)
    assert browser.send(f"/sandboxes/{made}{path}", timeout="5").status_code in (400, 404, 405)
    assert console.world.sandboxes.find(made) == before


def test_the_audit_log_has_the_key(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.behalf.user_name", lambda uid: f"{console.world.config.project}-console")
    browser = console.browser("ada")
    browser.send("/new", template="base", timeout="none")
    (row,) = console.world.ledger.rows("running")
    browser.send(f"/sandboxes/{row.id}/extend", timeout="3600")
    browser.send(f"/sandboxes/{row.id}/pause")
    browser.send(f"/sandboxes/{row.id}/kill")
    told = [json.loads(line) for line in console.world.config.audit_log.read_text().splitlines()]
    assert [one["action"] for one in told] == ["sign-in", "create", "extend", "pause", "kill"]
    assert {one["address"] for one in told} == {"203.0.113.7"}
    for one in told[1:]:
        assert one["actor"] == {"kind": "key", "id": browser.key.id, "name": "ada"}


def test_a_kill_asks_first(console: Console) -> None:
    browser, made = console.browser("ada"), console.sandbox("ada")
    assert "cannot be undone" in browser.get(f"/sandboxes/{made}/kill") and state(console, made) == "running"


def test_a_new_sandbox(console: Console) -> None:
    browser = console.browser("ada")
    form = browser.get("/new")
    assert "<option selected>base</option>" in form and "<option>large</option>" in form
    answer = browser.send("/new", part=True, template="large", name=" ümlaut ", timeout="none")
    (row,) = console.world.ledger.rows("running")
    assert answer.headers["hx-redirect"] == f"/sandboxes/{row.id}"
    assert (row.template, row.name, row.timeout_s, row.keep) == ("large", "ümlaut", None, False)
    assert row.policy.closed, "the box for the internet was not ticked"


def test_a_full_host_says_so_in_the_form(console: Console) -> None:
    browser = console.browser("ada")
    console.world.memory_mb[0] = 10
    answer = browser.send("/new", part=True, template="base", name="wanted", timeout="900")
    assert answer.status_code == 503 and "this host is full" in answer.text and 'value="wanted"' in answer.text


def test_a_key_that_is_revoked_meanwhile_makes_nothing(console: Console) -> None:
    browser = console.browser("ada")
    token = browser.token()
    from sandboxd.keys import Keys

    Keys(console.world.ledger).revoke(browser.key.id)
    answer = browser.client.post("/new", data={"token": token, "template": "base", "timeout": "900"})
    assert answer.headers["location"] == "/sign-in" and console.world.ledger.rows("running") == []
