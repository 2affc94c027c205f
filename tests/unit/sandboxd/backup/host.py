"""A host in a directory: its files and its ledger are real; docker and systemctl are programs that take notes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxd import config
from sandboxd.backup.places import Places
from sandboxd.config import Template
from sandboxd.ledger import Ledger
from sandboxd.records import ApiKey, Claim, MadeTemplate
from tests.unit.sandboxd.conftest import short_directory
from tests.unit.sandboxd.test_config import GOOD

BASE = Template("base", "base:1", 2048, 2.0, 1024, 64, 10240)
UID = 100000
PROGRAMS = {
    "docker": """#!/bin/sh
echo "docker $*" >>{folder}/calls
case "$1 $2" in
    "info --format") cat {folder}/info ;;
    "image inspect") shift 4; for image; do echo 1000; done ;;
    "save --output") file=$3; shift 3; echo "saved $*" >"$file" ;;
    "load --quiet") if [ -e {folder}/full ]; then echo no space left >&2; exit 1; fi; cp "$4" {folder}/loaded ;;
esac
""",
    "systemctl": """#!/bin/sh
echo "systemctl $*" >>{folder}/calls
case "$1 $2" in
    "is-active acme-console.service") echo inactive; exit 3 ;;
    is-active*) echo active ;;
    "start acme-sandboxd.service") if [ -e {folder}/broken ]; then echo it does not start >&2; exit 1; fi ;;
esac
""",
    "certificate": """#!/bin/sh
echo certificate >>{folder}/calls
""",
}


@dataclass
class Host:
    """`fill` gives it what people have on a host."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("state", "etc/secrets", "etc/lib/browser-test", "bin"):
            (self.folder / name).mkdir(parents=True)
        text = GOOD.replace("/var/lib/acme", f"{self.folder}/state").replace("/etc/acme", f"{self.folder}/etc")
        text = text.replace("/run/acme", f"{self.folder}").replace("/var/log/acme", f"{self.folder}/log")
        browser = f'[browser]\ntemplate = ""\nscripts = "{self.folder}/etc/lib/browser-test"\nauthority = ""\n'
        self.config.write_text(text + browser)
        for name, content in PROGRAMS.items():
            file = self.folder / "bin" / name
            file.write_text(content.replace("{folder}", str(self.folder)))
            file.chmod(0o755)
        (self.folder / "etc/lib/internal-certificate").symlink_to(self.folder / "bin/certificate")
        self.describe(UID)
        Ledger(self.places.config.ledger).close()
        (self.folder / "etc/secrets/token_key").write_text(f"key of {self.folder.name}")

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def places(self) -> Places:
        return Places(config.load(self.config))

    def describe(self, uid: int) -> None:
        info = {"DockerRootDir": f"/var/lib/docker/{uid}.{uid}", "SecurityOptions": ["name=userns"]}
        (self.folder / "info").write_text(json.dumps(info))

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def ledger(self) -> Ledger:
        return Ledger(self.places.config.ledger)

    def fill(self) -> None:
        ledger = self.ledger()
        for slot, claim in (("a", Claim(name="demo", envs={"S": "secret"}, volume="data")), ("b", Claim())):
            ledger.create(slot, "cold", BASE, "sha256:1", 1.0, 64, claim)
            ledger.set_id(slot, f"id{slot}")
            if slot == "a":
                ledger.set_running("acme", slot, claim, 2.0)
            else:
                ledger.set_warm(slot, "acme-pool-b")
        ledger.add_key(ApiKey("k1", "ci", 0, 1.0), "digest")
        ledger.add_template(MadeTemplate("mine", "acme-template-mine:1", "base", 64, 1.0))
        ledger.set_setting("may_sweep", "yes")
        ledger.close()
        for name, text in (
            ("etc/secrets/link_key", "key of links"),
            ("etc/ca/ca.key", "key of the authority"),
            ("etc/ca/ca.pem", "certificate of the authority"),
            ("state/acme/production-example.com.json", "account"),
            ("state/acme/traefik.log.gz", "a log"),
        ):
            file = self.folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        disk(self.state / "volumes/data.img", b"data")
        disk(self.state / "volumes/half.new", b"")
        disk(self.state / "snapshots/mine.img", b"mine")


def disk(file: Path, content: bytes) -> None:
    """64 MB with something at its beginning and near its end, and a hole between."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with file.open("wb") as opened:
        opened.write(content)
        opened.seek(60 * 1024 * 1024)
        opened.write(content * 3)
        opened.truncate(64 * 1024 * 1024)


@contextmanager
def a_host(monkeypatch: pytest.MonkeyPatch | None = None) -> Iterator[Host]:
    """With `monkeypatch` its programs are those that are found."""
    with short_directory() as folder:
        if monkeypatch:
            monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        yield Host(folder)
