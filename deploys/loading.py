"""From a host's data to its settings: every key known, every value of its type, every rule kept. Touches nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv4Address
from typing import Any, cast

from deploys.rules import BY_ADDRESS, TEMPLATE_NAME, check
from deploys.settings import IMAGE_KEYS, FleetNode, SettingError, Settings, Template

# Data keys that are pyinfra's own: connection settings, and global arguments such as `_sudo`.
PYINFRA_KEYS = ("ssh_", "fake_", "docker_identifier", "_")


def load(data: Mapping[str, Any]) -> Settings:
    """Check a host's data and return its settings.

    Raises SettingError for an unknown key, a wrong type, a value out of range, or keys that contradict each other.
    """
    known = {field.name: field.type for field in fields(Settings)}
    for key in data:
        if key not in known and not key.startswith(PYINFRA_KEYS):
            raise SettingError(
                key, data[key], f"unknown setting{_suggest(key, known)}; group_data/all.py lists them all"
            )
    values = {key: _typed(key, data[key], str(kind)) for key, kind in known.items() if key in data}
    for key in known:
        if key not in values:
            raise SettingError(key, None, "missing; run from the project's root, where group_data/all.py is")
    values["domain"] = _domain(values["domain"], str(data.get("ssh_hostname", "")))
    values["templates"] = _templates(values)
    values["fleet_nodes"] = _fleet_nodes(values["fleet_nodes"])
    settings = Settings(**values)
    check(settings)
    return settings


def _suggest(key: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _typed(key: str, value: Any, kind: str) -> Any:
    """The value as its field's type; text from a command line is converted."""
    if kind == "bool":
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        if not isinstance(value, bool):
            raise SettingError(key, value, "use True or False")
    elif kind in ("int", "float"):
        # A bool is an int to Python, and int() would cut 2.5 down to 2 without a word.
        refused = (bool, float) if kind == "int" else bool
        try:
            if not isinstance(value, refused):
                return int(value) if kind == "int" else float(value)
        except (TypeError, ValueError):
            pass
        raise SettingError(key, value, "use a whole number" if kind == "int" else "use a number")
    elif kind == "str":
        if not isinstance(value, str):
            raise SettingError(key, value, "use a text in quotes")
    elif kind.startswith("tuple"):
        if isinstance(value, str):
            value = [word for word in value.split(",") if word]
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise SettingError(key, value, "use a list of texts")
        return tuple(value)
    else:
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise SettingError(key, value, f"use a dictionary, on the command line as JSON ({error})") from None
        if not isinstance(value, dict):
            raise SettingError(key, value, "use a dictionary")
    return value


def _domain(given: str, address: str) -> str:
    """The domain itself; for BY_ADDRESS the one that the service has for the host's IPv4 address."""
    if given != BY_ADDRESS:
        return given
    try:
        return f"{IPv4Address(address)}".replace(".", "-") + f".{BY_ADDRESS}"
    except ValueError:
        remedy = (
            f"needs a host that is named by its IPv4 address, not {address!r}: use HOST=root@203.0.113.7, or a domain"
        )
        raise SettingError("domain", given, remedy) from None


def _templates(values: Mapping[str, Any]) -> dict[str, Template]:
    templates = {}
    for name, given in cast(dict[str, Any], values["templates"]).items():
        where = f"templates[{name!r}]"
        if not TEMPLATE_NAME.fullmatch(name):
            remedy = "name a template with lower-case letters, digits and dashes, at most 63"
            raise SettingError("templates", name, remedy)
        if not isinstance(given, dict):
            raise SettingError(where, given, "use a dictionary, as in group_data/all.py")
        given = _like(name, given, values)
        if name == values["default_template"] and "pool" in given:
            remedy = "leave it out: pool_size says it for the default template"
            raise SettingError(f"{where}['pool']", given["pool"], remedy)
        merged: dict[str, Any] = {
            "image": _image(name, values),
            "context": "sandbox",
            "base_image": "",
            "python_version": "",
            "apt_packages": (),
            "pip_packages": (),
            "npm_packages": (),
            "memory_mb": values["sandbox_memory_mb"],
            "cpus": values["sandbox_cpus"],
            "pids": values["sandbox_pids"],
            "disk_mb": values["sandbox_disk_mb"],
            "layer_mb": values["sandbox_layer_mb"],
            "pool": values["pool_size"] if name == values["default_template"] else 0,
            "runtime": "",
            **given,
        }
        known = {field.name: str(field.type) for field in fields(Template) if field.name != "name"}
        for key in merged:
            if key not in known:
                raise SettingError(f"{where}[{key!r}]", merged[key], f"unknown key{_suggest(key, known)}")
        typed = {key: _typed(f"{where}[{key!r}]", merged[key], kind) for key, kind in known.items()}
        templates[name] = Template(name=name, **typed)
    return templates


def _fleet_nodes(given: Mapping[str, Any]) -> dict[str, FleetNode]:
    keys = {field.name for field in fields(FleetNode)} - {"name"}
    nodes = {}
    for name, node in given.items():
        if (
            not isinstance(node, dict)
            or set(node) != keys
            or not all(isinstance(value, str) for value in node.values())
        ):
            remedy = "the inventory makes it of MANAGERS and WORKERS, or of hosts.toml: leave it out"
            raise SettingError(f"fleet_nodes[{name!r}]", node, remedy)
        nodes[name] = FleetNode(name=name, **node)
    return nodes


def _image(name: str, values: Mapping[str, Any]) -> str:
    return f"{values['project']}-{'sandbox' if name == values['default_template'] else name}"


def _like(name: str, given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and of the template that `like` names its image and what is not given, but for its pool."""
    if "like" not in given:
        return dict(given)
    where, other = f"templates[{name!r}]['like']", given["like"]
    named = values["templates"].get(other) if isinstance(other, str) else None
    if other == name or not isinstance(named, dict) or "like" in named:
        known = [one for one, what in values["templates"].items() if isinstance(what, dict) and "like" not in what]
        raise SettingError(where, other, f"name a template that is like no other: {', '.join(known)}")
    own = {key: value for key, value in given.items() if key != "like"}
    if changed := [key for key in own if key in IMAGE_KEYS]:
        raise SettingError(where, other, f"leave out {changed[0]}: a template that is like another has its image")
    taken = {key: value for key, value in named.items() if key != "pool"}
    return {"image": _image(other, values), **taken, **own}
