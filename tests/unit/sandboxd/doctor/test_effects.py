"""The effects, on real commands, files and servers."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandboxd.doctor import effects
from sandboxd.doctor.effects import Answer, Effects, Output
from tests.unit.ports import nobody

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """Says `script` after the head of each request; over TLS with a context."""

    def __init__(self, script: bytes, context: ssl.SSLContext | None = None) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listening.getsockname()
        self.requests: list[bytes] = []
        self._script, self._context = script, context
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
                connection.settimeout(5)
                with self._context.wrap_socket(connection, server_side=True) if self._context else connection as served:
                    received = b""
                    while b"\r\n\r\n" not in received and (piece := served.recv(65536)):
                        received += piece
                    self.requests.append(received)
                    if received:
                        served.sendall(self._script)
            except ssl.SSLError:
                continue
            except OSError:
                return


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A file with key and certificate, and the certificate as DER."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    made = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(secret + made.public_bytes(pem))
    return file, made.public_bytes(serialization.Encoding.DER)


@pytest.fixture
def edge(signed: tuple[Path, bytes]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed[0])
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    made = Server(PAGE, context)
    made.names = names  # type: ignore[attr-defined]
    yield made
    made.close()


def test_the_certificate_that_is_served_whoever_signed_it(edge: Server, signed: tuple[Path, bytes]) -> None:
    assert effects.certificate(edge.address, "qa-1.example.com") == signed[1]
    assert edge.names == ["qa-1.example.com"]  # type: ignore[attr-defined]


def test_a_page_by_its_name(edge: Server) -> None:
    assert effects.fetch(edge.address, "qa-1.example.com", True) == Answer(200, b"hello")
    assert edge.names == ["qa-1.example.com"]  # type: ignore[attr-defined]
    assert edge.requests[0].startswith(b"GET / HTTP/1.1\r\nHost: qa-1.example.com\r\n")


def test_a_page_without_tls() -> None:
    server = Server(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno")
    assert effects.fetch(server.address, "host", False) == Answer(502, b"no")
    server.close()


@pytest.mark.parametrize("script", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http(script: bytes) -> None:
    server = Server(script)
    with pytest.raises(OSError, match="answers what is no HTTP"):
        effects.fetch(server.address, "host", False)
    server.close()


def test_an_answer_without_end_is_read_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "MAX_ANSWER_BYTES", 1000)
    server = Server(PAGE + b"x" * 5_000_000)
    assert len(effects.fetch(server.address, "host", False).body) < 100_000
    server.close()


def test_nobody_listens() -> None:
    with nobody() as address, pytest.raises(OSError, match="refused"):
        effects.certificate(address, "x")


def test_a_command() -> None:
    assert effects.run(["sh", "-c", "echo $LC_ALL; cat"], b"in") == Output(0, "C\nin")
    assert effects.run(["sh", "-c", "echo bad >&2; exit 3"]) == Output(3, "bad\n")


def test_a_command_that_is_not_there() -> None:
    assert effects.run(["no-such-command"]) == Output(127, "no-such-command is not installed")


def test_a_command_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "COMMAND_S", 0.05)
    assert effects.run(["sleep", "60"]).code == 124


def test_files_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/x").write_bytes(b"a\xff")
    below = Effects(root=tmp_path)
    assert below.text("/etc/x") == "a\ufffd" and below.changed_at("/etc/x") > 1.7e9
    assert below.changed_at("/etc/none") == 0.0
    with pytest.raises(FileNotFoundError):
        below.text("/etc/none")
