"""Which pools are on and how large: the configuration, and what was said at run time, over restarts."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sandboxd.config import Config
from sandboxd.ledger import Ledger
from sandboxd.poolsettings import PoolSettings


@pytest.fixture
def ledger(config: Config) -> Iterator[Ledger]:
    made = Ledger(config.ledger)
    yield made
    made.close()


@pytest.fixture
def settings(config: Config, ledger: Ledger) -> PoolSettings:
    return PoolSettings(config, ledger)


def on(settings: PoolSettings) -> list[str]:
    return [name for name in ("base", "large") if settings.enabled(name)]


def test_all_are_off_until_they_are_turned_on(settings: PoolSettings) -> None:
    assert on(settings) == []
    settings.turn(True)
    assert on(settings) == ["base", "large"]


def test_one_is_turned_on_or_off_for_itself(settings: PoolSettings) -> None:
    settings.turn(True, "large")
    assert on(settings) == ["large"]
    settings.turn(True)
    settings.turn(False, "large")
    assert on(settings) == ["base"]


@pytest.mark.parametrize("value", [True, False])
def test_what_is_said_of_all_holds_for_all(settings: PoolSettings, value: bool) -> None:
    settings.turn(not value, "base")
    settings.turn(value)
    assert on(settings) == (["base", "large"] if value else [])


def test_a_ledger_of_the_time_of_one_pool_turns_all_on(settings: PoolSettings, ledger: Ledger) -> None:
    ledger.set_setting("pool_enabled", "yes")
    assert on(settings) == ["base", "large"]


def test_the_configured_size_until_another_one_is_said(settings: PoolSettings) -> None:
    assert (settings.size("base"), settings.size("large")) == (2, 0)
    settings.resize("base", 0)
    settings.resize("large", 5)
    assert (settings.size("base"), settings.size("large")) == (0, 5)


def test_a_size_holds_over_restarts_until_the_configuration_changes(
    config: Config, ledger: Ledger, settings: PoolSettings
) -> None:
    def deployed(size: int) -> PoolSettings:
        return PoolSettings(replace(config, templates={"base": replace(config.templates["base"], pool=size)}), ledger)

    settings.resize("base", 7)
    assert deployed(2).size("base") == 7
    assert deployed(3).size("base") == 3


def test_the_configured_size_is_nothing_to_remember(settings: PoolSettings, ledger: Ledger) -> None:
    settings.resize("base", 7)
    settings.resize("base", 2)
    assert settings.size("base") == 2 and ledger.setting("pool_size:base") == ""
