"""What a lab is told of proxies, pip's index, npm's registry and private authorities."""

import socket

import pytest

from lab import registries
from lab.registries import Registries


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://proxy.example:3128", True),
        ("https://pip.example/simple", True),
        ("proxy.example:3128", True),
        ("http://127.0.0.1:3142", False),
        ("http://localhost:3142/", False),
        ("http://[::1]:3142", False),
        ("https://me:secret@pip.example/simple", False),
        ("file:///srv/pypi", False),
        ("socks5://proxy.example:1080", False),
        ("", False),
    ],
)
def test_what_a_lab_can_and_may_reach(address: str, expected: bool) -> None:
    assert registries.reachable(address) is expected


def test_a_password_is_not_even_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries.log, "propagate", True)
    registries.reachable("https://me:secret@pip.example/simple")
    assert "pip.example" in caplog.text
    assert "secret" not in caplog.text


def test_proxies_in_both_spellings_with_the_lab_itself_direct() -> None:
    found = registries.proxies({"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": ".example,localhost"})
    assert found == {
        "https_proxy": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "no_proxy": ".example,localhost,127.0.0.1,::1",
        "NO_PROXY": ".example,localhost,127.0.0.1,::1",
    }
    assert registries.proxies({"no_proxy": "*", "http_proxy": "http://127.0.0.1:1"}) == {}


def test_pip_says_the_same_in_the_lab_and_the_environment_wins() -> None:
    said = """\
:env:.index-url='https://env.example/simple'
global.index-url='https://global.example/simple'
global.extra-index-url='file:///srv/pypi\\nhttps://more.example/simple'
global.trusted-host='pip.example'
global.cert='/etc/ssl/own.pem'
"""
    assert registries.parse_pip(said) == {
        "PIP_INDEX_URL": "https://env.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://more.example/simple",
        "PIP_TRUSTED_HOST": "pip.example",
    }


def test_apt_and_npm() -> None:
    assert registries.parse_apt("Acquire::http::Proxy http://proxy.example:3142\nAcquire::https::Proxy DIRECT\n") == {
        "Acquire::http::Proxy": "http://proxy.example:3142"
    }
    assert registries.parse_npm("npm warn Unknown config\nhttps://npm.example/\n") == {
        "NPM_CONFIG_REGISTRY": "https://npm.example/"
    }
    assert registries.parse_npm("") == registries.parse_npm("undefined\n") == {}


def test_a_workstation_with_nothing_special_changes_nothing() -> None:
    assert Registries().files(certificates=False) == {}


def test_files_of_a_lab() -> None:
    told = Registries(
        environment={"http_proxy": "http://proxy.example:3128", "PIP_INDEX_URL": "https://pip.example/a%20b"},
        apt={"Acquire::http::Proxy": "http://proxy.example:3142", "Acquire::https::Proxy": "http://127.0.0.1:3142"},
    )
    files = told.files(certificates=True)
    assert 'http_proxy="http://proxy.example:3128"\n' in files["etc/environment"]
    assert f'PIP_CERT="{registries.CA_BUNDLE}"\n' in files["etc/environment"]
    assert '"PIP_INDEX_URL=https://pip.example/a%%20b"' in files["etc/systemd/system.conf.d/lab.conf"]
    assert files["etc/apt/apt.conf.d/90lab"] == 'Acquire::http::Proxy "http://proxy.example:3142";\n'
    assert '"httpProxy": "http://proxy.example:3128"' in files["root/.docker/config.json"]
    assert told.build_environment() == {
        "http_proxy": "http://proxy.example:3142",
        "https_proxy": "http://127.0.0.1:3142",
    }


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        ({"http_proxy": "http://10.1.2.3:3128", "no_proxy": "10.9.9.9"}, ["10.1.2.3/32"]),
        ({"HTTPS_PROXY": "192.168.0.9:3128", "HTTP_PROXY": "http://10.1.2.3:3128"}, ["10.1.2.3/32", "192.168.0.9/32"]),
        ({"http_proxy": "http://8.8.8.8:3128"}, []),
        ({"http_proxy": "http://127.0.0.1:3128"}, []),
        ({"http_proxy": "http://proxy.invalid:3128"}, []),
    ],
)
def test_proxies_in_private_networks(
    environ: dict[str, str], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = socket.getaddrinfo

    def without_resolver(host: str, port: None, family: socket.AddressFamily) -> object:
        if host.endswith(".invalid"):  # a real one may take half a minute to say that, or know it
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, port, family)

    monkeypatch.setattr(socket, "getaddrinfo", without_resolver)
    assert registries.private_proxies(environ) == found
