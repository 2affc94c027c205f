import json
import os
from pathlib import Path

import pytest

from envd.config import ConfigError, ConfigSource

AGENT = {
    "sandboxID": "abc",
    "templateID": "base",
    "accessToken": "t1",
    "envs": {"K": "V"},
    "user": "user",
    "workdir": "/code",
}


def replace(path: Path, **changes: object) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(AGENT | changes))
    os.rename(new, path)


def test_the_file_is_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    replace(file)
    config = ConfigSource(str(file), fallback_token="other").current()
    assert (config.access_token, config.user, config.workdir) == ("t1", "user", "/code")
    assert config.sandbox_envs() == {
        "E2B_SANDBOX": "true",
        "E2B_SANDBOX_ID": "abc",
        "E2B_TEMPLATE_ID": "base",
        "K": "V",
    }


def test_a_replaced_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    replace(file)
    source = ConfigSource(str(file))
    assert source.current() is source.current()
    replace(file, accessToken="t2")
    assert source.current().access_token == "t2"


def test_a_broken_replacement_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "agent.json"
    replace(file)
    source = ConfigSource(str(file))
    replace(file, accessToken="")
    assert source.current().access_token == "t1"
    assert "no accessToken" in caplog.text
    file.unlink()
    assert source.current().access_token == "t1"


def test_without_a_file_the_variable_gives_the_token(tmp_path: Path) -> None:
    config = ConfigSource(str(tmp_path / "agent.json"), fallback_token="t").current()
    assert (config.access_token, config.user, config.workdir) == ("t", "user", "/code")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accessToken": 1}', '{"accessToken": "t", "envs": [1]}'])
def test_a_broken_file_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "agent.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"agent\.json"):
        ConfigSource(str(file), fallback_token="t")


def test_without_any_token_it_says_what_to_provide(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ENVD_ACCESS_TOKEN"):
        ConfigSource(str(tmp_path / "agent.json"))
