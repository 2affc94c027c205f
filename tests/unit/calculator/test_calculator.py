"""The calculator through its HTTP interface, with a real SQLite file."""

import importlib.util
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "calculator"


def load() -> ModuleType:
    """Import app.py by path: `app` is too common a name for sys.path."""
    spec = importlib.util.spec_from_file_location("calculator_app", FOLDER / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "calculator.sqlite"


@pytest.fixture
def client(module: ModuleType, database: Path) -> Iterator[TestClient]:
    with TestClient(module.create_app(database)) as client:
        yield client


def calculate(client: TestClient, a: Any, op: Any, b: Any) -> Any:
    response = client.post("/api/calculate", json={"a": a, "b": b, "op": op})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, content: str) -> str:
    headers = {"Content-Type": "application/json"}
    response = client.post("/api/calculate", content=content, headers=headers)
    assert response.status_code == 422, response.text
    detail = response.json()["detail"]
    assert isinstance(detail, str)
    return detail


@pytest.mark.parametrize(
    ("a", "op", "b", "expression", "result"),
    [
        (5, "+", 3, "5 + 3", "8"),
        (10, "-", 2, "10 - 2", "8"),
        (2, "-", 10, "2 - 10", "-8"),
        (4, "*", 2.5, "4 * 2.5", "10"),
        (8, "/", 2, "8 / 2", "4"),
        (1, "/", 3, "1 / 3", "0.333333333333333"),
        (0.1, "+", 0.2, "0.1 + 0.2", "0.3"),
        (5.0, "+", 3.0, "5 + 3", "8"),
        (-5, "-", -3, "-5 - -3", "-2"),
        (0, "*", -1, "0 * -1", "0"),
        (99999999, "*", 9999999, "99999999 * 9999999", "999999890000001"),
    ],
)
def test_results_are_exact_and_whole_numbers_have_no_point(
    client: TestClient, a: float, op: str, b: float, expression: str, result: str
) -> None:
    response = client.post("/api/calculate", json={"a": a, "b": b, "op": op})
    assert response.json()["expression"] == expression
    match = re.search(r'"result":\s*([^,}]+)', response.text)
    assert match is not None and match[1] == result  # the text, since Python's 8 == 8.0


def test_answer_has_the_documented_shape(client: TestClient) -> None:
    assert calculate(client, 5, "+", 3) == {"id": 1, "expression": "5 + 3", "result": 8}


def test_large_and_small_numbers_stay_json(client: TestClient) -> None:
    assert calculate(client, 1e200, "*", 1e50)["result"] == 1e250
    assert calculate(client, 1e-300, "*", 1e-300)["result"] == 0
    assert calculate(client, 1e20, "+", 0)["expression"] == "1e+20 + 0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1, "b": 0, "op": "/"}', "division by zero"),
        ('{"a": 1, "b": 0.0, "op": "/"}', "division by zero"),
        ('{"a": 1, "b": 2, "op": "^"}', "op: "),
        ('{"a": 1, "b": 2}', "op: "),
        ('{"a": "one", "b": 2, "op": "+"}', "a: "),
        ('{"a": null, "b": 2, "op": "+"}', "a: "),
        ('{"a": NaN, "b": 2, "op": "+"}', "a: "),
        ('{"a": 1, "b": Infinity, "op": "+"}', "b: "),
        ('{"a": 1e300, "b": 1e300, "op": "*"}', "too large"),
        ('{"a": 1e400, "b": 1, "op": "+"}', "a: "),
        ('{"a": 1', "JSON"),
        ("[]", "body: "),
    ],
)
def test_bad_input_is_refused_with_a_sentence_and_not_recorded(client: TestClient, content: str, words: str) -> None:
    assert words in refused(client, content)
    assert client.get("/api/history").json() == []


def test_the_message_for_a_bad_operator_names_the_good_ones(client: TestClient) -> None:
    detail = refused(client, '{"a": 1, "b": 2, "op": "^"}')
    assert all(f"'{op}'" in detail for op in "+-*/")


def test_history_is_newest_first_and_bounded(client: TestClient, module: ModuleType) -> None:
    for number in range(3):
        calculate(client, number, "+", 1)
    entries = client.get("/api/history").json()
    assert [entry["expression"] for entry in entries] == ["2 + 1", "1 + 1", "0 + 1"]
    assert [entry["id"] for entry in entries] == [3, 2, 1]
    for number in range(module.HISTORY_LIMIT):
        calculate(client, number, "*", 1)
    assert len(client.get("/api/history").json()) == module.HISTORY_LIMIT


def test_history_survives_a_restart(client: TestClient, database: Path) -> None:
    first = calculate(client, 5, "+", 3)
    with TestClient(load().create_app(database)) as restarted:
        assert restarted.get("/api/history").json() == [first]
        assert '"result":8}' in restarted.get("/api/history").text.replace(" ", "")


def test_clear_empties_the_history_and_never_reuses_an_id(client: TestClient, database: Path) -> None:
    calculate(client, 5, "+", 3)
    assert client.delete("/api/history").json() == {"cleared": 1}
    assert client.get("/api/history").json() == []
    assert client.delete("/api/history").json() == {"cleared": 0}
    assert calculate(client, 1, "+", 1)["id"] == 2
    with sqlite3.connect(database) as db:
        assert db.execute("SELECT expression FROM history").fetchall() == [("1 + 1",)]


def test_the_database_may_vanish_between_requests(client: TestClient, database: Path) -> None:
    calculate(client, 5, "+", 3)
    database.unlink()
    assert client.get("/api/history").json() == []


def test_the_environment_names_the_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CALCULATOR_DB", str(tmp_path / "elsewhere.db"))
    with TestClient(load().app) as client:
        calculate(client, 5, "+", 3)
    assert (tmp_path / "elsewhere.db").exists()


def test_importing_writes_nothing() -> None:
    load()
    assert not (FOLDER / "calculator.sqlite").exists()


def test_page_and_everything_it_names_is_served_from_here(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert not name.startswith(("http", "//", "/")), name
        assert client.get(name).status_code == 200, name


def test_every_control_of_the_page_has_a_name(client: TestClient) -> None:
    page = client.get("/").text
    labelled = set(re.findall(r'<label for="([^"]+)"', page))
    assert set(re.findall(r'<input id="([^"]+)"', page)) == labelled == {"a", "b"}
    assert 'aria-live="polite"' in page and 'role="alert"' in page and '<html lang="en">' in page
