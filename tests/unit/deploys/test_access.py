"""The guard against a lock-out by sshd's configuration, over texts of `sshd -T` and a double of the host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from paramiko import AuthenticationException
from pyinfra.api.exceptions import DeployError
from pyinfra.connectors.ssh import SSHConnector

from deploys import access

GOOD = "port 22\npubkeyauthentication yes\npermitrootlogin without-password\nauthenticationmethods any\n"


def problems(told: str = GOOD, user: str = "root", included: bool = True, login: str = "") -> list[str]:
    return access.problems(user, told, included, login)


def test_a_user_whose_key_works_is_let_on() -> None:
    assert problems() == []
    assert problems(user="ada", told=GOOD.replace("without-password", "no")) == []


def test_a_login_by_key_that_fails() -> None:
    (line,) = problems(user="ada", login="Authentication failed.")
    assert "ada does not log in by key alone: Authentication failed." in line
    assert "~ada/.ssh/authorized_keys" in line


@pytest.mark.parametrize("told", ["/etc/ssh/sshd_config.d/20-x.conf: line 1: Bad configuration option: x\nmore", ""])
def test_a_configuration_that_sshd_refuses(told: str) -> None:
    (line,) = problems(told)
    assert "sshd would not take the configuration" in line and "\n" not in line
    assert (told.splitlines() or ["does not run"])[0] in line


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"included": False}, "Include /etc/ssh/sshd_config.d/*.conf"),
        ({"told": GOOD.replace("pubkeyauthentication yes", "pubkeyauthentication no")}, "sshd takes no keys"),
        ({"told": GOOD.replace("without-password", "no")}, "permitrootlogin = 'no'"),
        ({"told": GOOD.replace("without-password", "forced-commands-only")}, "root could not come in"),
        ({"told": GOOD.replace("methods any", "methods password")}, "authenticationmethods = 'password'"),
    ],
)
def test_what_else_would_lock_out(changed: dict[str, Any], says: str) -> None:
    (line,) = problems(**changed)
    assert says in line


@pytest.mark.parametrize("methods", ["publickey", "publickey,password publickey"])
def test_methods_with_a_key_alone_are_enough(methods: str) -> None:
    assert problems(GOOD.replace("methods any", f"methods {methods}")) == []


def test_every_keyword_is_said_once_and_none_of_them_needs_more_than_a_key() -> None:
    assert len({line.split()[0].lower() for line in access.LINES}) == len(access.LINES)
    assert access.DIRECTIVES["PasswordAuthentication"] == "no"
    assert not {"AllowUsers", "AllowGroups", "Port", "ListenAddress", "AuthenticationMethods"} & set(access.DIRECTIVES)
    assert all(re.fullmatch(r"[A-Za-z0-9]+ [A-Za-z0-9:-]+", line) for line in access.LINES), "no quoting is needed"


class FakeHost:
    name = "box"

    def __init__(self) -> None:
        self.data = {"_sudo": True}
        self.ran: list[tuple[str, bool]] = []

    def run_shell_command(self, command: str, _sudo: bool) -> None:
        self.ran.append((command, _sudo))


def test_a_change_after_which_nobody_comes_in_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    monkeypatch.setattr(access, "host", host)
    monkeypatch.setattr(access, "key_login", lambda host, patience_s: "Authentication failed.")
    with pytest.raises(DeployError, match=r"nobody could log in \(Authentication failed.\)"):
        access.stay_or_go_back("/etc/ssh/x.conf")
    assert host.ran == [("rm /etc/ssh/x.conf && systemctl try-reload-or-restart ssh.service", True)]


def test_a_change_after_which_they_do_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    monkeypatch.setattr(access, "host", host)
    monkeypatch.setattr(access, "key_login", lambda host, patience_s: "")
    access.stay_or_go_back("/etc/ssh/x.conf")
    assert host.ran == []


def test_a_host_that_is_not_reached_by_ssh_proves_nothing() -> None:
    class Local:
        connector = object()

    assert "not reached by SSH" in access.key_login(Local())  # type: ignore[arg-type]


class Connector(SSHConnector):
    """Of a host whose port is closed for the first tries."""

    def __init__(self) -> None:
        return

    def make_paramiko_kwargs(self) -> dict[str, Any]:
        return {"hostname": "box", "username": "ada", "password": "secret", "port": 22}


class Client:
    """Of SSH: what each try to connect meets, one after the other."""

    met: ClassVar[list[Exception | None]] = []
    asked: ClassVar[list[dict[str, Any]]] = []

    def connect(self, hostname: str, **words: Any) -> None:
        self.asked.append(words)
        if error := self.met.pop(0):
            raise error

    def exec_command(self, command: str, timeout: float) -> tuple[None, Any, None]:
        assert command == "true" and timeout > 0
        channel = SimpleNamespace(recv_exit_status=lambda: 0)
        return None, SimpleNamespace(channel=channel, read=self.read), None

    def read(self) -> bytes:
        """What the command prints, until it ends."""
        if self.met and isinstance(error := self.met.pop(0), Exception):
            raise error
        return b""

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("met", "patience_s", "trouble"),
    [
        ([None], 0, ""),
        ([ConnectionRefusedError("closed"), ConnectionRefusedError("closed"), None], 60, ""),
        ([ConnectionRefusedError("closed")], 0, "closed"),
        ([AuthenticationException("Authentication failed.")], 60, "Authentication failed."),
        ([EOFError()], 60, "EOFError"),
        ([None, TimeoutError()], 60, "TimeoutError"),
    ],
    ids=["at once", "after a reload", "closed", "refused", "hung up", "a command that does not end"],
)
def test_a_second_login(
    met: list[Exception | None], patience_s: float, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keys alone, and again only while nobody listens: what was refused once is not tried a second time."""
    monkeypatch.setattr(access, "SSHClient", Client)
    monkeypatch.setattr(access, "POLL_S", 0)
    monkeypatch.setattr(Client, "met", list(met))
    monkeypatch.setattr(Client, "asked", [])
    host: Any = SimpleNamespace(connector=Connector())
    assert access.key_login(host, patience_s) == trouble
    assert Client.met == [] and all("password" not in words for words in Client.asked)


@pytest.mark.parametrize(("newer_s", "said"), [(-0.1, ""), (5, "unread\n")])
def test_a_file_that_sshd_has_read_is_not_newer_however_slow_the_host_is(
    tmp_path: Path, newer_s: float, said: str
) -> None:
    """Half a second passes in each program. The state of the unit changed when this test began."""
    changed_us = float(Path("/proc/uptime").read_text().split()[0]) * 1e6
    texts = {"systemctl": f"sleep 0.5\n[ $1 = is-active ] || echo {changed_us:.0f}"}
    texts["date"] = f'sleep 0.5\nexec {shutil.which("date")} "$@"'
    for name, text in texts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    file = tmp_path / "sshd.conf"
    file.touch()
    written_ns = file.stat().st_mtime_ns + int(newer_s * 1e9)
    os.utime(file, ns=(written_ns, written_ns))
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", "-c", access.UNREAD.format(file=file)]
    told = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert told.stdout == said
