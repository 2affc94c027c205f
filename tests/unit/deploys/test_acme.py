"""The values of certificates by ACME: server, store, and credentials from files and from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploys import acme
from deploys.loading import load
from deploys.settings import SettingError, Settings

Data = dict[str, Any]


def wanted(data: Data, **changes: Any) -> Settings:
    order = {"tls_mode": "acme", "acme_email": "ops@example.com", "acme_dns_provider": "rfc2136"}
    return load({**data, **order, "acme_credentials": ["DNS_TOKEN"], **changes})


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("production", "https://acme-v02.api.letsencrypt.org/directory"),
        ("staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
        ("https://ca.example.com/dir", "https://ca.example.com/dir"),
    ],
)
def test_servers(server: str, address: str, data: Data) -> None:
    assert acme.directory(wanted(data, acme_server=server)) == address


def test_each_server_and_each_domain_has_a_store(data: Data) -> None:
    servers = (
        "production",
        "staging",
        "https://localhost:1/dir",
        "https://localhost:2/dir",
        "https://localhost:1/other",
    )
    stores = {
        acme.store(wanted(data, acme_server=server, domain=domain))
        for server in servers
        for domain in ("a.example.com", "b.example.com")
    }
    assert len(stores) == 10 and "staging-a.example.com.json" in stores
    assert not [name for name in stores if "/" in name]


def test_from_files_and_from_the_environment(data: Data, tmp_path: Path) -> None:
    file = tmp_path / "dns.env"
    file.write_text("# of the provider\n\nDNS_USER = ada\nDNS_PASSWORD=a=b c\n")
    settings = wanted(data, acme_credentials=[str(file), "DNS_TOKEN"])
    found = acme.credentials(settings, {"DNS_TOKEN": "t0ken", "DNS_OTHER": "x"})
    assert found == {"DNS_USER": "ada", "DNS_PASSWORD": "a=b c", "DNS_TOKEN": "t0ken"}


def test_a_file_that_a_name_names(data: Data, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("two\nlines\n")
    settings = wanted(data, acme_credentials=["DNS_KEY_FILE"])
    assert acme.credentials(settings, {"DNS_KEY_FILE": str(tmp_path / "key")}) == {"DNS_KEY_FILE": "two\nlines\n"}
    with pytest.raises(SettingError, match=r"acme_credentials = 'DNS_KEY_FILE': the file that it names cannot be read"):
        acme.credentials(settings, {"DNS_KEY_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize("environ", [{}, {"DNS_TOKEN": ""}])
def test_a_variable_that_is_not_set(environ: dict[str, str], data: Data) -> None:
    with pytest.raises(SettingError, match=r"acme_credentials = 'DNS_TOKEN': .* export it"):
        acme.credentials(wanted(data), environ)


@pytest.mark.parametrize("line", ["DNS_TOKEN", "two words=x", "=x"])
def test_a_line_that_is_none(line: str, data: Data, tmp_path: Path) -> None:
    """It is named by its number: it may hold a secret."""
    (tmp_path / "dns.env").write_text(f"DNS_USER=ada\n{line}\n")
    with pytest.raises(SettingError) as caught:
        acme.credentials(wanted(data, acme_credentials=[str(tmp_path / "dns.env")]), {})
    assert str(caught.value) == f"acme_credentials = '{tmp_path}/dns.env': line 2 is not NAME=value"


def test_what_no_file_can_give(data: Data) -> None:
    settings = wanted(data, acme_credentials=["AWS_SECRET_ACCESS_KEY"])
    with pytest.raises(SettingError, match="use AWS_SHARED_CREDENTIALS_FILE") as caught:
        acme.credentials(settings, {"AWS_SECRET_ACCESS_KEY": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_traefik_is_told_the_files() -> None:
    assert acme.environment(["DNS_TOKEN", "DNS_KEY_FILE"]) == {
        "DNS_TOKEN_FILE": "/etc/traefik/secrets/DNS_TOKEN",
        "DNS_KEY_FILE": "/etc/traefik/secrets/DNS_KEY_FILE",
    }
