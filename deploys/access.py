"""sshd, closed as far as the setting `ssh_hardening` says, and the proof that nobody locks themselves out by it.

Three looks: before the first change of a deploy the user logs in a second time, with keys alone, and sshd reads the
configuration that is to come; after the change they log in once more, and if that fails, the change is taken back over
the session that is open still.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from paramiko import SSHException
from pyinfra import host
from pyinfra.api import FunctionCommand, deploy, operation
from pyinfra.api.exceptions import DeployError
from pyinfra.api.host import Host
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.sshuserclient import SSHClient

from deploys import facts
from deploys.operations import Commands, located, place, when
from deploys.preflight import settings

TEMPLATE = "etc/ssh/sshd_config.d/10-project-sandbox.conf"
AUTH_TIMEOUT_S = 30
RELOAD_S, POLL_S = 20.0, 0.2
# Not AllowTcpForwarding no: the figures on the loopback are looked at by `ssh -L`. Not MaxAuthTries: an agent with
# many keys tries them all. Not AuthenticationMethods: whoever has two factors keeps them.
DIRECTIVES: Mapping[str, str] = {
    "AllowAgentForwarding": "no",
    "AllowTcpForwarding": "local",
    "ClientAliveCountMax": "3",
    "ClientAliveInterval": "300",
    "GatewayPorts": "no",
    "HostbasedAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "LoginGraceTime": "30",
    "LogLevel": "VERBOSE",
    "MaxStartups": "10:30:60",
    "PasswordAuthentication": "no",
    "PermitEmptyPasswords": "no",
    "PermitRootLogin": "prohibit-password",
    "PermitTunnel": "no",
    "PermitUserEnvironment": "no",
    "X11Forwarding": "no",
}
LINES = [f"{key} {value}" for key, value in DIRECTIVES.items()]
ALLOWED_FOR_ROOT = ("yes", "prohibit-password", "without-password")
SSHD = "/usr/sbin/sshd"
RELOAD = "systemctl try-reload-or-restart ssh.service"
MAIN = "/etc/ssh/sshd_config"
# What sshd would do for `user` if our lines were read first, as those of a file are that sorts before the others.
EFFECTIVE = (
    "{{ printf '%s\\n' {lines}; cat " + MAIN + "; }} | "
    "{sshd} -T -f /dev/stdin -C user={user},host=localhost,addr=127.0.0.1 2>&1"
)
INCLUDED = rf"grep -iE '^\s*Include\s+(/etc/ssh/)?sshd_config\.d/\*\.conf' {MAIN}"
# systemd notes when the unit's state changed last: at a reload, too, after which the daemon has read the file. The time
# is asked for last: what a busy host lets pass before it tells it makes the reload later, and no file newer than it.
UNREAD = (
    "systemctl is-active --quiet ssh.service && awk -v at=$(stat -c %.9Y {file}) "
    "-v changed=$(systemctl show ssh.service --property StateChangeTimestampMonotonic --value) "
    '\'{{"date +%s.%N" | getline now; if (at > now - $1 + changed / 1e6) print "unread"}}\' /proc/uptime'
)


def key_login(host: Host, patience_s: float = 0) -> str:
    """Log in a second time as the user of this deploy, with keys alone. Returns why that fails, "" when it does not.

    So long it tries again while nobody listens: an sshd that reads its files anew closes its port for a moment.
    """
    connector = host.connector
    if not isinstance(connector, SSHConnector):
        return "this host is not reached by SSH"
    words = connector.make_paramiko_kwargs()
    hostname = words.pop("hostname")
    words.pop("password", None)
    client = SSHClient()
    give_up = time.monotonic() + patience_s
    try:
        while True:
            try:
                client.connect(hostname, auth_timeout=AUTH_TIMEOUT_S, **words)  # type: ignore[no-untyped-call]
                break
            except OSError:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(POLL_S)
        _, output, _ = client.exec_command("true", timeout=AUTH_TIMEOUT_S)
        output.read()  # to its end, for so long at most: the status would be waited for without one
        status = output.channel.recv_exit_status()
    except (SSHException, OSError, EOFError) as error:
        return str(error) or type(error).__name__
    finally:
        client.close()
    return f"the login works, but `true` ends there with exit code {status}" if status else ""


def effective(text: str) -> dict[str, str]:
    """What `sshd -T` prints, by keyword in small letters."""
    return {key: value for key, _, value in (line.partition(" ") for line in text.splitlines())}


def problems(user: str, told: str, included: bool, login: str) -> list[str]:
    """What stands against closing sshd, one line each, with what to do. `told` is what `sshd -T` printed."""
    found = []
    if login:
        found.append(
            f"{user} does not log in by key alone: {login}; put your public key into ~{user}/.ssh/authorized_keys"
        )
    values = effective(told)
    if "pubkeyauthentication" not in values:
        refusal = told.splitlines()[0] if told else f"{SSHD} does not run"
        found.append(f"sshd would not take the configuration: {refusal}; mend {MAIN}")
        return found
    if not included:
        found.append(f"{MAIN} does not read sshd_config.d; put this line first: Include /etc/ssh/sshd_config.d/*.conf")
    if values["pubkeyauthentication"] != "yes":
        found.append(f"pubkeyauthentication = {values['pubkeyauthentication']!r}: sshd takes no keys; allow them first")
    if user == "root" and values.get("permitrootlogin") not in ALLOWED_FOR_ROOT:
        found.append(f"permitrootlogin = {values.get('permitrootlogin')!r}: root could not come in by key")
    methods = values.get("authenticationmethods", "any").split()
    if "any" not in methods and "publickey" not in methods:
        found.append(
            f"authenticationmethods = {' '.join(methods)!r}: a key alone is not enough; put publickey among them"
        )
    return found


@deploy("Access")
def prove() -> None:
    """Before the first change: the user of this deploy could come back. Raises DeployError."""
    wanted = settings()
    if not wanted.ssh_hardening:
        return
    user = host.get_fact(facts.Output, command_line="id -un", _sudo=False)
    lines = " ".join(f"'{line}'" for line in LINES)
    command = EFFECTIVE.format(lines=lines, sshd=SSHD, user=user)
    told = host.get_fact(facts.Output, command_line=command)
    included = bool(host.get_fact(facts.Output, command_line=INCLUDED))
    found = problems(user, told, included, key_login(host))
    if found:
        raise DeployError(
            f"ssh_hardening = True would lock you out of {host.name}; nothing was changed:\n"
            + "\n".join(f"  - {line}" for line in found)
        )


@deploy("Access")
def ssh() -> None:
    """Last of all: the file, and a reload, which ends no session; or, switched off, neither."""
    wanted = settings()
    file = located(TEMPLATE, wanted)
    if wanted.ssh_hardening:
        place(TEMPLATE, wanted, lines=LINES)
        read_again(name="Let sshd read it", file=file)
    else:
        when(name="Open sshd as it was", condition=f"ls {file}", commands=[f"rm {file}", f"{SSHD} -t", RELOAD])


@operation()
def read_again(file: str) -> Commands:
    """Have sshd read its files when it has not since `file` was written, and log in to see that it lets us."""
    if host.get_fact(facts.Output, command_line=UNREAD.format(file=file)):
        yield f"{SSHD} -t || {{ rm {file}; exit 1; }}; {RELOAD}"
        yield FunctionCommand(stay_or_go_back, (file,), {})


def stay_or_go_back(file: str) -> None:
    """Takes the file away again when nobody would come in any more. Raises DeployError then."""
    trouble = key_login(host, RELOAD_S)
    if trouble:
        host.run_shell_command(f"rm {file} && {RELOAD}", _sudo=bool(host.data.get("_sudo")))
        raise DeployError(f"{host.name}: after {file} nobody could log in ({trouble}); it was taken away again")
