"""The table of contexts: defaults, limits. No kernel starts before something is run."""

import asyncio
import json
from pathlib import Path

import pytest

from envd.config import ConfigSource
from envd.errors import EnvdError
from interpreter import contexts
from interpreter.contexts import Contexts
from tests.unit.envd.client import MYSELF


@pytest.fixture
def table(tmp_path: Path) -> Contexts:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"accessToken": "t", "user": MYSELF}))
    return Contexts(ConfigSource(str(file)))


def test_a_language_has_one_default_and_short_names(table: Contexts) -> None:
    assert table.default(None) is table.default("python") is table.default("Py")
    assert table.default("js") is table.default("javascript") is not table.default("typescript")
    assert [context.language.name for context in table.all()] == ["python", "javascript", "typescript"]


def test_there_are_at_most_so_many(table: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MAX_CONTEXTS", 2)
    first = table.default("python")
    table.default("bash")
    with pytest.raises(EnvdError, match="there are 2 contexts already: delete one") as caught:
        table.default("javascript")
    assert caught.value.status == 429
    assert table.default("python") is first
    asyncio.run(table.delete(first.id))
    assert table.default("javascript").language.name == "javascript"


def test_a_deleted_default_is_made_anew(table: Contexts) -> None:
    first = table.default("python")
    asyncio.run(table.delete(first.id))
    second = table.default("python")
    assert second is not first and table.all() == [second]
    with pytest.raises(EnvdError, match=f"context '{first.id}' not found"):
        table.get(first.id)
