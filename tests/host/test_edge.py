"""Traefik and the gateway, from the workstation: ports, certificate, routes, and the answers for what is not there."""

import json
import re
import socket
import ssl

import pytest

from tests.host.machine import Machine, eventually

NOBODY = "0123456789ab"
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate"}


def test_traefik_runs_without_the_docker_socket_and_without_privileges(machine: Machine) -> None:
    found = json.loads(machine.out("docker inspect traefik"))[0]
    config = found["HostConfig"]
    assert found["State"]["Running"] and config["RestartPolicy"]["Name"] == "unless-stopped"
    assert not [mount for mount in found["Mounts"] if "docker.sock" in mount["Source"]]
    assert config["NetworkMode"] == "host" and config["ReadonlyRootfs"]
    assert config["CapDrop"] == ["ALL"] and config["CapAdd"] in (["NET_BIND_SERVICE"], ["CAP_NET_BIND_SERVICE"])


@pytest.mark.parametrize("port", [80, 443])
def test_ports_are_open_to_the_world(machine: Machine, port: int) -> None:
    with socket.create_connection((machine.target.address, port), timeout=10):
        pass


@pytest.mark.parametrize("port", [8081, 8082, 8090])
def test_inner_ports_are_not(machine: Machine, port: int) -> None:
    assert machine.host.socket(f"tcp://127.0.0.1:{port}").is_listening
    with pytest.raises(OSError), socket.create_connection((machine.target.address, port), timeout=2):
        pass


def test_http_is_redirected_to_https(machine: Machine) -> None:
    domain = machine.settings.domain
    answer = machine.request("GET", f"http://qa-{NOBODY}.{domain}/a?b=c")
    assert answer.status_code in (301, 308)
    assert answer.headers["location"] == f"https://qa-{NOBODY}.{domain}/a?b=c"


def test_the_certificate_is_for_all_names_of_the_domain(machine: Machine) -> None:
    """The chain is checked against the authority, and the name against the certificate, as every client does it."""
    domain = machine.settings.domain
    context = machine.trust()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in (f"qa-{NOBODY}.{domain}", f"5173-{NOBODY}.{domain}", f"api.{domain}"):
        with (
            socket.create_connection((machine.target.address, 443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert ("DNS", f"*.{domain}") in (secure.getpeercert() or {})["subjectAltName"]


def test_the_key_is_readable_by_root_only(machine: Machine) -> None:
    files = ["/etc/traefik/certs/wildcard.key"] if machine.settings.tls_mode != "acme" else []
    if machine.settings.tls_mode == "internal":
        files.append(f"{machine.settings.etc}/ca/ca.key")
    for path in files:
        file = machine.host.file(path)
        assert (file.user, file.mode) == ("root", 0o600), path


def test_an_unknown_sandbox_is_answered_as_e2b_clients_expect(machine: Machine) -> None:
    answer = machine.request("GET", f"https://3000-{NOBODY}.{machine.settings.domain}/")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"sandboxId": NOBODY, "message": "The sandbox was not found", "code": 502}


def test_a_closed_port_is_answered_as_e2b_clients_expect(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        answer = machine.request("GET", sandbox.url(3000) + "/")
        assert answer.status_code == 502
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "sandboxId": sandbox.id,
            "message": "The sandbox is running but port is not open",
            "port": 3000,
            "code": 502,
        }


def test_an_impossible_port_reaches_nothing(machine: Machine) -> None:
    """65536 + n must not reach n."""
    with machine.sandbox() as sandbox:
        for port in (0, 65536, 99999):
            answer = machine.request("GET", sandbox.url().replace("https://qa-", f"https://{port}-"))
            assert answer.status_code == 502, port
            assert answer.json()["message"] == "The sandbox is running but port is not open", port


@pytest.mark.parametrize("name", ["other", "qa-", "x-0123456789ab"])
def test_other_names_reach_no_sandbox(machine: Machine, name: str) -> None:
    answer = machine.request("GET", f"https://{name}.{machine.settings.domain}/")
    assert (answer.status_code, answer.json()) == (400, {"code": 400, "message": "Invalid host"})


def test_a_person_gets_a_page_that_says_what_to_do(machine: Machine) -> None:
    unknown = machine.request("GET", f"https://qa-{NOBODY}.{machine.settings.domain}/", headers=BROWSER)
    assert unknown.status_code == 502 and unknown.headers["content-type"].startswith("text/html")
    assert NOBODY in unknown.text and "docker-sandbox list" in unknown.text
    with machine.sandbox() as sandbox:
        closed = machine.request("GET", sandbox.url(5173), headers=BROWSER)
        assert closed.status_code == 502 and closed.headers["content-type"].startswith("text/html")
        assert sandbox.id in closed.text and "5173" in closed.text and "docker-sandbox exec" in closed.text


def test_an_answer_of_the_application_is_not_touched(machine: Machine) -> None:
    """A 503 of the server inside is its own, and our security headers are for our own pages only."""
    program = (
        "from http.server import *\n"
        "class H(BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(503); self.end_headers(); self.wfile.write(b'mine')\n"
        "HTTPServer(('0.0.0.0', 8000), H).serve_forever()\n"
    )
    with machine.sandbox() as sandbox:
        sandbox.run("cat >app.py", stdin=program.encode())
        sandbox.serve("python3 app.py")
        answer = machine.request("GET", sandbox.url(), headers=BROWSER)
    assert (answer.status_code, answer.text) == (503, "mine")
    assert "strict-transport-security" not in answer.headers and "x-frame-options" not in answer.headers


def test_a_server_on_loopback_is_reachable(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        sandbox.run("echo here >index.html")
        sandbox.serve("python3 -m http.server 5173 --bind 127.0.0.1", 5173)
        assert machine.request("GET", sandbox.url(5173)).text == "here\n"


def test_the_api_answers_with_our_headers_and_wants_a_key(machine: Machine) -> None:
    health = machine.request("GET", f"https://api.{machine.settings.domain}/health")
    assert health.status_code == 200
    assert health.headers["x-content-type-options"] == "nosniff" and health.headers["x-frame-options"] == "DENY"
    refused = machine.request("GET", f"https://api.{machine.settings.domain}/v2/sandboxes")
    assert refused.status_code == 401 and refused.json() == {"code": 401, "message": "Invalid API key"}


def test_traefik_logs_the_router_of_each_request(machine: Machine) -> None:
    """Soon: the log is written by another thread, which has a buffer."""
    path = "/seen-by-the-log"
    url = f"https://qa-{NOBODY}.{machine.settings.domain}{path}"
    machine.request("GET", url)
    found = eventually(
        lambda: (
            machine.run(f"docker logs --since 5m traefik 2>&1 | grep -F {path} | grep qa-wildcard", check=False).stdout
        ),
        lambda text: bool(text),
        60,
        "line of the access log",
    )
    entry = json.loads(found.splitlines()[0])
    assert re.fullmatch(r"qa-wildcard(@file)?", entry["RouterName"]) and entry["DownstreamStatus"] == 502
