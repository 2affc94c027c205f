"""`ca`: the authority of the host, from the file that its configuration names; no daemon is asked."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from sandboxd.cli import main
from sandboxd.cli.authority import fingerprint

DER = b"a certificate"
PEM = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(DER).decode()}\n-----END CERTIFICATE-----\n"
SHA256 = ":".join(f"{byte:02X}" for byte in hashlib.sha256(DER).digest())


@pytest.fixture
def config(tmp_path: Path) -> str:
    return configured(tmp_path, str(tmp_path / "ca.pem"))


def configured(folder: Path, authority: str) -> str:
    file = folder / "config.toml"
    file.write_text(f'[browser]\ntemplate = ""\nscripts = "/none"\nauthority = "{authority}"\n')
    return str(file)


def test_the_certificate_alone(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    assert main(["ca"], config=config) == 0
    assert capsys.readouterr().out == PEM


def test_for_programs(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    assert main(["ca", "--json"], config=config) == 0
    assert json.loads(capsys.readouterr().out) == {"pem": PEM, "sha256": SHA256}


def test_a_host_without_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca"], config=configured(tmp_path, "")) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "no authority of its own" in printed.err


def test_a_file_that_is_not_there(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ca"], config=config) == 1
    assert "ca.pem" in capsys.readouterr().err


def test_the_fingerprint_is_of_the_first_certificate() -> None:
    assert fingerprint(f"# text before\n{PEM}{PEM.replace('Y', 'Z')}") == SHA256
