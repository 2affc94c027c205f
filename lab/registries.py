"""How the workstation reaches the package registries: proxies, pip's index, npm's registry. A lab goes the same way.

Asks apt-config, pip and npm, and reads the environment. Addresses with a password in them stay on the workstation.
"""

import ast
import contextlib
import json
import logging
import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from lab.docker import run
from lab.errors import LabError

log = logging.getLogger("lab")

APT_PROXIES = ("apt-config", "dump", "--format", "%f %v%n", "Acquire::http::Proxy", "Acquire::https::Proxy")
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host")
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
DOCKER_CLIENT_KEYS = {"http_proxy": "httpProxy", "https_proxy": "httpsProxy", "no_proxy": "noProxy"}
CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
"""What tells programs that bring their own list of authorities (pip and npm from elsewhere) to use the system's."""


@dataclass(frozen=True)
class Registries:
    """What a lab is told."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for every login and service."""
    apt: Mapping[str, str] = field(default_factory=dict)
    """apt's own proxies by option, such as Acquire::http::Proxy, as they are on the workstation."""

    def build_environment(self) -> dict[str, str]:
        """Return the variables for a program on the workstation that fetches packages with settings of its own."""
        return {f"{option.split('::')[1]}_proxy": address for option, address in self.apt.items()}

    def files(self, certificates: bool) -> dict[str, str]:
        """Return the files of a lab that say all this, by their path below /; `certificates`: it has a private CA."""
        trusted = dict.fromkeys(CA_VARIABLES, CA_BUNDLE) if certificates else {}
        variables = sorted((trusted | dict(self.environment)).items())
        made = {}
        if variables:
            quoted = (json.dumps(f"{name}={value}").replace("%", "%%") for name, value in variables)
            made["etc/environment"] = "".join(f'{name}="{value}"\n' for name, value in variables)
            made["etc/systemd/system.conf.d/lab.conf"] = f"[Manager]\nDefaultEnvironment={' '.join(quoted)}\n"
        apt = [(option, address) for option, address in sorted(self.apt.items()) if reachable(address)]
        if apt:
            made["etc/apt/apt.conf.d/90lab"] = "".join(f'{option} "{address}";\n' for option, address in apt)
        proxies = {DOCKER_CLIENT_KEYS[name]: value for name, value in variables if name in DOCKER_CLIENT_KEYS}
        if proxies:
            # Docker's client hands these to the builds and containers that it starts.
            made["root/.docker/config.json"] = json.dumps({"proxies": {"default": proxies}}, indent=2) + "\n"
        return made


def reachable(address: str) -> bool:
    """Say whether a lab can and may use a proxy or registry address that the workstation uses.

    Files and loopback addresses are out of its reach. Credentials are none of its business: sandboxes run in it.
    """
    parts = urlsplit(address if "//" in address else f"//{address}")
    host = parts.hostname or ""
    if parts.scheme not in ("", "http", "https") or not host:
        return False
    if "@" in parts.netloc:
        log.warning("left out of the lab, for the password in it: the address at %s", host)
        return False
    if host in ("localhost", "::1") or host.startswith("127."):
        log.warning("left out of the lab, which cannot reach this machine's loopback: %s", address)
        return False
    return True


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables of `environ`, in both spellings (curl reads one, Go programs the other)."""
    found = {}
    for name in ("http_proxy", "https_proxy"):
        value = environ.get(name) or environ.get(name.upper(), "")
        if value and reachable(value):
            found[name] = value
    if found:
        direct = environ.get("no_proxy") or environ.get("NO_PROXY", "")
        found["no_proxy"] = ",".join(dict.fromkeys([*filter(None, direct.split(",")), "localhost", "127.0.0.1", "::1"]))
    return found | {name.upper(): value for name, value in found.items()}


def private_proxies(environ: Mapping[str, str]) -> list[str]:
    """Return the addresses of proxies in private networks, each as a /32: a sandbox host closes those otherwise."""
    told = (value for name, value in proxies(environ).items() if name in ("http_proxy", "https_proxy"))
    hosts = {urlsplit(value if "//" in value else f"//{value}").hostname or "" for value in told}
    found = set()
    for host in hosts:
        with contextlib.suppress(OSError):  # nobody knows the name: then nobody gets there
            found |= {str(answer[4][0]) for answer in socket.getaddrinfo(host, None, socket.AF_INET)}
    return sorted(f"{address}/32" for address in found if IPv4Address(address).is_private)


def parse_pip(config_list: str) -> dict[str, str]:
    """Read the output of `pip config list` (`global.index-url='...'`); return the variables that say the same."""
    values: dict[str, tuple[bool, list[str]]] = {}
    for line in config_list.splitlines():
        match = re.fullmatch(r"(:env:|[\w-]+)\.([\w-]+)=('.*'|\".*\")", line.strip())
        if not match or match[2] not in PIP_OPTIONS:
            continue
        words = str(ast.literal_eval(match[3])).split()
        wins = match[1] == ":env:"
        if wins or not values.get(match[2], (False, []))[0]:
            values[match[2]] = (wins, [word for word in words if match[2] == "trusted-host" or reachable(word)])
    return {f"PIP_{name.upper().replace('-', '_')}": " ".join(words) for name, (_, words) in values.items() if words}


def parse_apt(dump: str) -> dict[str, str]:
    """Read the output of APT_PROXIES. DIRECT is apt's word for no proxy."""
    lines = (line.partition(" ") for line in dump.splitlines())
    return {option: value for option, _, value in lines if option in APT_PROXIES and value not in ("", "DIRECT")}


def parse_npm(answer: str) -> dict[str, str]:
    """Read the output of `npm config get registry`, which has warnings above it."""
    address = (answer.strip().splitlines() or [""])[-1]
    return {"NPM_CONFIG_REGISTRY": address} if address.startswith("http") and reachable(address) else {}


def gather(environ: Mapping[str, str] = os.environ) -> Registries:
    """Ask this workstation. A tool that is not here has nothing to say."""
    questions = [APT_PROXIES, (sys.executable, "-m", "pip", "config", "list"), ("npm", "config", "get", "registry")]
    with ThreadPoolExecutor() as at_once:  # half a second each
        apt, pip, npm = at_once.map(_ask, questions)
    # A Python without pip still passes these on to the environments that are made with it.
    named = {option: environ.get(f"PIP_{option.upper().replace('-', '_')}") for option in PIP_OPTIONS}
    pip += "".join(f"\n:env:.{option}={value!r}" for option, value in named.items() if value)
    return Registries(environment=proxies(environ) | parse_pip(pip) | parse_npm(npm), apt=parse_apt(apt))


def _ask(question: tuple[str, ...]) -> str:
    if shutil.which(question[0]) is None:
        return ""
    try:
        done = run(question, check=False, timeout_s=20)
    except LabError as error:
        log.warning("left out of the lab: what %s says (%s)", question[0], error.problem)
        return ""
    return done.stdout if done.returncode == 0 else ""
