"""From data to settings: keys that are missing or unknown, types, templates with what they inherit."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.loading import load
from deploys.settings import Template
from tests.unit.deploys.conftest import KEYS, refusal


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_setting(key: str, data: dict[str, Any]) -> None:
    del data[key]
    assert refusal(data).startswith(f"{key} = None: missing; run from the project's root")


def test_an_unknown_setting_is_named_with_the_nearest(data: dict[str, Any]) -> None:
    assert refusal({**data, "pool_sise": 3}) == (
        "pool_sise = 3: unknown setting (did you mean pool_size?); group_data/all.py lists them all"
    )
    assert refusal({**data, "zzz": 3}) == "zzz = 3: unknown setting; group_data/all.py lists them all"


def test_connection_data_is_no_setting(data: dict[str, Any]) -> None:
    connection = {"ssh_hostname": "203.0.113.7", "ssh_port": 22, "_sudo": True, "fake_delay": 0}
    assert load(data | connection) == load(data)


def test_a_dictionary_may_come_from_the_command_line_as_json(data: dict[str, Any]) -> None:
    settings = load({**data, "sysctls": '{"vm.swappiness": 10}'})
    assert settings.sysctls == {"vm.swappiness": 10}


def test_each_template_says_its_pool_but_that_of_the_default_is_pool_size(data: dict[str, Any]) -> None:
    data |= {"pool_size": 4, "templates": {"base": {}, "more": {"pool": "2"}, "none": {}}}
    settings = load(data)
    assert {name: template.pool for name, template in settings.templates.items()} == {"base": 4, "more": 2, "none": 0}
    assert settings.pools == 6
    data["templates"]["base"] = {"pool": 5}
    assert refusal(data) == ("templates['base']['pool'] = 5: leave it out: pool_size says it for the default template")


def test_a_template_takes_the_defaults_of_the_sandbox_settings(data: dict[str, Any]) -> None:
    data |= {
        "sandbox_memory_mb": 512,
        "sandbox_cpus": 1,
        "sandbox_pids": 100,
        "sandbox_disk_mb": 512,
        "sandbox_layer_mb": 256,
        "templates": {"base": {}},
    }
    assert load(data).templates["base"] == Template(
        name="base",
        image="flourisha-sandbox",
        context="sandbox",
        base_image="",
        python_version="",
        apt_packages=(),
        pip_packages=(),
        npm_packages=(),
        memory_mb=512,
        cpus=1.0,
        pids=100,
        disk_mb=512,
        layer_mb=256,
        pool=3,
        runtime="",
    )


def test_images_are_named_after_project_and_template(data: dict[str, Any]) -> None:
    data |= {"project": "acme", "templates": {"base": {}, "data": {}}}
    assert [template.image for template in load(data).templates.values()] == ["acme-sandbox", "acme-data"]


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("image", "Name", "use an image name without tag"),
        ("image", "name:tag", "use an image name without tag"),
        ("image", "", "use an image name without tag"),
        ("context", "python", "choose one of sandbox, playwright, code-interpreter"),
        ("base_image", "debian trixie", "image reference"),
        ("python_version", "2.7", "such as '3.12'"),
        ("python_version", "3", "such as '3.12'"),
        ("python_version", 3.12, "use a text in quotes"),
        ("apt_packages", ["vim; reboot"], "use package names"),
        ("pip_packages", ["--index-url=https://example.com"], "use package names"),
        ("npm_packages", ["$(reboot)"], "use package names"),
        ("memory_mb", 63, "between 64 and 1048576"),
        ("memory_mb", "2g", "use a whole number"),
        ("cpus", 0.05, "between 0.1 and 256"),
        ("cpus", float("nan"), "between 0.1 and 256"),
        ("pids", 31, "between 32 and 65536"),
        ("pids", 65537, "between 32 and 65536"),
        ("layer_mb", 63, "between 64 and 16777216"),
        ("disk_mb", 63, "between 64 and 16777216"),
        ("runtime", "kata", "use 'runsc' for gVisor, or '' for docker_runtime"),
    ],
)
def test_a_template_is_refused(key: str, value: Any, remedy: str, data: dict[str, Any]) -> None:
    message = refusal({**data, "templates": {"base": {key: value}}})
    shown = value[0] if isinstance(value, list) else value
    assert message.startswith(f"templates['base']['{key}'] = {shown!r}: ")
    assert remedy in message


@pytest.mark.parametrize(
    ("key", "package"),
    [
        ("apt_packages", "libpq-dev"),
        ("apt_packages", "g++"),
        ("pip_packages", "uvicorn[standard]>=0.30,<1"),
        ("pip_packages", "polars==1.9"),
        ("npm_packages", "@types/node@22"),
        ("npm_packages", "typescript@~5.4"),
    ],
)
def test_packages_as_people_write_them(key: str, package: str, data: dict[str, Any]) -> None:
    settings = load({**data, "templates": {"base": {key: [package]}}})
    assert getattr(settings.templates["base"], key) == (package,)


def test_an_unknown_key_of_a_template(data: dict[str, Any]) -> None:
    message = refusal({**data, "templates": {"base": {"memory": 1}}})
    assert message == "templates['base']['memory'] = 1: unknown key (did you mean memory_mb?)"


def test_a_template_may_be_like_another_but_for_its_limits(data: dict[str, Any]) -> None:
    data |= {
        "templates": {
            "base": {"apt_packages": ["tree"], "pids": 99},
            "large": {"like": "base", "memory_mb": 8192},
            "own": {"image": "acme/own", "pool": 2, "cpus": 3},
            "like-own": {"like": "own"},
        }
    }
    found = load(data).templates
    assert (found["large"].image, found["large"].apt_packages) == ("flourisha-sandbox", ("tree",))
    assert (found["large"].memory_mb, found["large"].pids, found["large"].pool) == (8192, 99, 0)
    assert (found["like-own"].image, found["like-own"].cpus, found["like-own"].pool) == ("acme/own", 3.0, 0)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"like": "none"}, "= 'none': name a template that is like no other: base"),
        ({"like": "large"}, "= 'large': name a template that is like no other: base"),
        ({"like": 1}, "= 1: name a template that is like no other: base"),
        ({"like": "base", "apt_packages": ["tree"]}, "= 'base': leave out apt_packages"),
        ({"like": "base", "memory": 1}, "['memory'] = 1: unknown key"),
    ],
)
def test_what_a_template_cannot_be_like(given: dict[str, Any], remedy: str, data: dict[str, Any]) -> None:
    assert remedy in refusal({**data, "templates": {"base": {}, "large": given}})


def test_two_templates_cannot_share_an_image(data: dict[str, Any]) -> None:
    """The build of one would remove the other's image as an older tag of its own, at every deploy anew."""
    message = refusal(
        {**data, "templates": {"base": {}, "more": {"image": "flourisha-sandbox", "apt_packages": ["tree"]}}}
    )
    assert "an image name of its own" in message


def test_a_domain_by_address(data: dict[str, Any]) -> None:
    assert load({**data, "domain": "sslip.io", "ssh_hostname": "203.0.113.7"}).domain == "203-0-113-7.sslip.io"
    assert load({**data, "ssh_hostname": "203.0.113.7"}).domain == data["domain"]


@pytest.mark.parametrize("address", ["box.example.com", "2001:db8::7", ""])
def test_a_domain_by_address_needs_an_address(address: str, data: dict[str, Any]) -> None:
    message = refusal({**data, "domain": "sslip.io", "ssh_hostname": address})
    assert message.startswith(f"domain = 'sslip.io': needs a host that is named by its IPv4 address, not {address!r}")
    assert "HOST=root@203.0.113.7" in message
