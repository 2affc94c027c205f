"""Host data as pyinfra gives it: the defaults of group_data, and what a test changes."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from deploys.loading import load
from deploys.settings import SettingError, Settings

ROOT = Path(__file__).resolve().parents[3]
DOMAIN = "sandbox.example.com"
KEYS = [field.name for field in fields(Settings)]


def group_data(name: str) -> dict[str, Any]:
    """The values of one file of group_data, chosen as pyinfra chooses them."""
    found = runpy.run_path(str(ROOT / f"group_data/{name}.py"))
    shown = found.get("__all__", [key for key in found if not key.startswith("__")])
    return {key: found[key] for key in shown if not isinstance(found[key], type(pytest))}


@pytest.fixture
def data() -> dict[str, Any]:
    """The data of a server with nothing set but its domain."""
    return {**group_data("all"), "domain": DOMAIN}


def refusal(data: dict[str, Any]) -> str:
    """The message with which the settings are refused."""
    with pytest.raises(SettingError) as caught:
        load(data)
    return str(caught.value)
