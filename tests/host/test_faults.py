"""What breaks, and what is left of it: parts killed in every order, reboots half-way, full disks, spoilt files.

`make test-faults` runs these and prints how soon everything worked again; docs/operate.md has the outcomes as a table.
The rule: what was acknowledged is not lost, what was not may have been done and is in the list, and nothing is left
over. Clock jumps are in test_chaos, and are run as well; a lost ledger is in test_ledger.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest

from deploys import ROOT
from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_chaos import nobody_else

pytestmark = [pytest.mark.disruptive, pytest.mark.faults]

HOME = "/var/lib/test-faults"
PARTS = {
    "dockerd": "systemctl kill --signal KILL --kill-whom main docker.service",
    "containerd": "systemctl kill --signal KILL --kill-whom main containerd.service",
    "sandboxd": "systemctl kill --signal KILL --kill-whom main {sandboxd}",
    "haproxy": "systemctl kill --signal KILL haproxy.service",
    "traefik": "kill -KILL $(pgrep -x traefik)",
}
RESTARTS = {
    "dockerd": "systemctl restart docker.service",
    "containerd": "systemctl restart containerd.service",
    "sandboxd": "systemctl restart {sandboxd}",
    "haproxy": "systemctl restart haproxy.service",
    "traefik": "docker restart traefik",
}
DEEDS = {"killed": PARTS, "restarted": RESTARTS}
# In these ten each part is killed right after each other one, twice: a design of Williams for five.
SQUARE = [[(first + step) % 5 for step in (0, 1, 4, 2, 3)] for first in range(5)]
CLOSE = [tuple(list(PARTS)[number] for number in row) for rows in (SQUARE, [r[::-1] for r in SQUARE]) for row in rows]

# Runs on the host: each worker makes sandboxes, writes into them, and removes some of them again. A command that fails
# is repeated, as a script of a user would. Each acknowledgement is a line, on the disk before the next command starts.
LOAD = """
import json, os, subprocess, sys, threading, time
home, workers, verb = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
DEADLINE_S, lock, log = 180, threading.Lock(), open(home + "/acknowledged", "a")

def note(*words):
    with lock:
        log.write(json.dumps(words) + "\\n")
        log.flush()
        os.fsync(log.fileno())

def insist(*words, good=(0,)):
    give_up = time.monotonic() + DEADLINE_S
    while True:
        done = subprocess.run(["docker-sandbox", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode in good:
            return done.stdout.strip()
        if time.monotonic() > give_up:
            note("failed", " ".join(words), f"{done.returncode} {done.stderr}")
            raise SystemExit
        if os.path.exists(home + "/stop"):
            raise SystemExit
        time.sleep(0.2)

def work(number):
    kept = []
    for turn in range(10**6):
        if os.path.exists(home + "/stop"):
            return
        sandbox = insist("init", "--keep", "--name", f"faults-{number}-{turn}", *verb)
        note("made", sandbox)
        insist("exec", sandbox, f"echo {sandbox} >/code/mark && sync /code/mark")
        note("wrote", sandbox)
        kept.append(sandbox)
        if len(kept) > 2:
            note("killing", kept[0])
            insist("kill", kept[0], good=(0, 3))
            note("killed", kept.pop(0))

threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def ready(machine: Machine) -> None:
    machine.run("systemctl reset-failed", check=False)
    machine.run(f"rm -rf {HOME} && mkdir {HOME} && cat >{HOME}/load.py", stdin=LOAD.encode())


@contextmanager
def load(machine: Machine, workers: int, *options: str) -> Iterator[None]:
    """Workers all the time; at its end they finish what they do."""
    words = shlex.join(["python3", f"{HOME}/load.py", HOME, str(workers), *options])
    machine.run(f"rm -f {HOME}/stop; systemd-run --quiet --collect --unit test-faults {words}")
    try:
        yield
    finally:
        machine.run(f"touch {HOME}/stop")
        eventually(
            lambda: machine.run("systemctl is-active test-faults", check=False).stdout.strip(),
            lambda state: state != "active",
            240,
            "end of the load",
        )


def acknowledged(machine: Machine) -> dict[str, set[str]]:
    """What the workers were told: `made`, `wrote`, `killed`; what they asked, `killing`; and gave up, `failed`."""
    lines = [json.loads(line) for line in machine.out(f"cat {HOME}/acknowledged || true").splitlines()]
    words = ("made", "wrote", "killing", "killed", "failed")
    return {word: {" ".join(line[1:]) for line in lines if line[0] == word} for word in words}


def nothing_lost(machine: Machine, least: int) -> None:
    """Every sandbox that was acknowledged and not killed is there, with what was written; the others are not."""
    told = acknowledged(machine)
    assert told["failed"] == set()
    assert len(told["wrote"]) >= least
    there = {row["sandboxID"] for row in machine.listed()}
    wanted = told["made"] - told["killing"]
    assert wanted - there == set() and there & told["killed"] == set()
    for sandbox in sorted(wanted & told["wrote"]):
        found = eventually(
            lambda one=sandbox: Sandbox(machine, one).run("cat /code/mark", check=False),  # type: ignore[misc]
            lambda done: done.returncode == 0,
            90,
            f"file of {sandbox}",
        )
        assert found.stdout.strip() == sandbox


def remove_all(machine: Machine) -> None:
    """What the load made, also without that it was told. Its names are the load's."""
    for row in machine.listed():
        assert row["name"].startswith("faults-")
        machine.run(f"docker-sandbox kill {row['sandboxID']}")


def serves(machine: Machine, page: str) -> bool:
    """Whether everything works: a page that was there before ("" for none), a new sandbox, a command in it, its URL,
    the API.
    """
    health = f"https://api.{machine.settings.domain}/health"
    try:
        if page and machine.request("GET", page).text != "well\n":
            return False
        if machine.request("GET", health).text != "ok\n":
            return False
    except Exception:  # whatever it is, it is not up yet
        return False
    made = machine.run("docker-sandbox init --name faults-probe", check=False)
    if made.returncode != 0:
        return False
    sandbox = made.stdout.strip()
    try:
        if machine.run(f"docker-sandbox exec {sandbox} true", check=False).returncode != 0:
            return False
        answer = machine.request("GET", machine.out(f"docker-sandbox get-host {sandbox} --port 9999"))
        return "port is not open" in answer.text
    except Exception:
        return False
    finally:
        machine.run(f"docker-sandbox kill {sandbox}", check=False)


@dataclass
class Clock:
    """How soon everything works again, by itself, after what."""

    record: Callable[[str, object], None]
    since: float = 0.0

    def start(self) -> None:
        self.since = time.monotonic()

    def back(self, machine: Machine, page: str, fault: str) -> None:
        """The time since `start`; the last probe is in it, which takes about a second."""
        eventually(lambda: serves(machine, page), bool, 180, "host that works again")
        self.record("recovery", {"fault": fault, "seconds": time.monotonic() - self.since})


@pytest.fixture
def clock(record_property: Callable[[str, object], None]) -> Clock:
    return Clock(record_property)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "orders" in metafunc.fixturenames:
        every = metafunc.config.getoption("--orders") == "all"
        found = list(permutations(PARTS)) if every else CLOSE
        firsts = {part: [order for order in found if order[0] == part] for part in PARTS}
        metafunc.parametrize("orders", list(firsts.values()), ids=list(firsts))


@pytest.mark.parametrize("deed", DEEDS)
def test_parts_are_killed_and_restarted_in_every_order(
    machine: Machine, clock: Clock, orders: list[tuple[str, ...]], deed: str
) -> None:
    """One right after the other, all in a moment. Sandboxes, their processes and their pages live on."""
    ready(machine)
    with nobody_else(machine), machine.sandbox() as sandbox:
        sandbox.run("echo well >index.html; echo $$ >/tmp/started")
        sandbox.serve("python3 -m http.server 8000")
        before, page = sandbox.inspect()["State"]["StartedAt"], sandbox.url()
        with load(machine, 2):
            for order in orders:
                machine.run("systemctl reset-failed docker containerd haproxy", check=False)
                clock.start()
                for part in order:
                    machine.run(DEEDS[deed][part].format(sandboxd=machine.unit("sandboxd")), check=False)
                clock.back(machine, page, f"{deed}: {', '.join(order)}")
        assert sandbox.inspect()["State"]["StartedAt"] == before, "it was never restarted"
        for row in machine.listed():
            if row["name"] == "faults-probe":
                machine.run(f"docker-sandbox kill {row['sandboxID']}")
        machine.run(f"docker-sandbox kill {sandbox.id}")
        nothing_lost(machine, least=2 * len(orders))
        remove_all(machine)


DOCKERFILE = b"""\
ARG BASE
FROM ${BASE}
USER root
COPY seconds /
RUN sleep $(cat /seconds) && head -c 50M /dev/urandom >/opt/large
"""


def test_a_reboot_in_the_middle_of_creates_claims_and_a_build(machine: Machine, clock: Clock) -> None:
    ready(machine)
    machine.run(f"mkdir {HOME}/image && cat >{HOME}/image/Dockerfile", stdin=DOCKERFILE)
    machine.run(f"echo 601 >{HOME}/image/seconds")
    build = f"docker-sandbox template build {HOME}/image faults"
    with nobody_else(machine):
        for options in ([], ["--cold"]):  # claims of warm ones, and creates
            words = shlex.join(["python3", f"{HOME}/load.py", HOME, "2", *options])
            machine.run(f"systemd-run --quiet --collect --unit test-faults-build {build}")
            machine.run(f"systemd-run --quiet --collect --unit test-faults {words}")
            least = len(acknowledged(machine)["killed"]) + 2
            eventually(lambda: len(acknowledged(machine)["killed"]), lambda seen: seen >= least, 120, "life")  # noqa: B023
            sleeps = "pgrep --full --exact 'sleep 601'"
            eventually(lambda: machine.run(sleeps, check=False).returncode, lambda code: code == 0, 120, "build")  # noqa: B023
            clock.start()
            machine.reboot()
            clock.back(machine, "", f"reboot in the middle of {'creates' if options else 'claims'} and a build")
            machine.run("docker-sandbox pool start --wait")
            nothing_lost(machine, least=2)
            assert "faults" not in machine.out("docker-sandbox template ls | awk '{print $1}'").split()
            machine.run(f"rm {HOME}/acknowledged")
            remove_all(machine)
        machine.run(f"echo 1 >{HOME}/image/seconds")
        assert machine.out(build) == "faults", "what was cut off can be done again"
        machine.run("docker-sandbox template rm faults")


def test_a_reboot_in_the_middle_of_a_deploy(machine: Machine, clock: Clock) -> None:
    """While it installs another control plane: the one before runs on, and another deploy ends what was begun."""
    ready(machine)
    link, unit = f"{machine.settings.opt}/venv", machine.unit("sandboxd")
    with machine.sandbox("--keep") as sandbox:
        sandbox.run("echo kept >kept")
        machine.run(
            f"mv $(readlink -f {link}) {link}s/older && ln -sfn {link}s/older {link} && systemctl restart {unit}"
        )
        deploy = deploying(machine)
        try:
            installing = "pgrep -f '[p]ip install'"
            eventually(
                lambda: deploy.poll() is not None or machine.run(installing, check=False).returncode == 0,
                bool,
                300,
                "deploy that installs",
            )
            clock.start()
            machine.reboot()
            said = deploy.communicate(timeout=300)[0]
        finally:
            deploy.kill()
        assert deploy.returncode != 0, said
        clock.back(machine, "", "reboot in the middle of a deploy")
        assert machine.out(f"readlink {link}") == f"{link}s/older"
        found = eventually(lambda: sandbox.run("cat kept", check=False), lambda done: done.returncode == 0, 90, "file")
        assert found.stdout == "kept\n"
        assert "sandboxd | Install sandboxd" in machine.deploy().changed
        assert machine.deploy().changed == []
        assert sandbox.out("cat kept") == "kept"


@contextmanager
def small_disk(machine: Machine, directory: str, free_mb: int) -> Iterator[str]:
    """A directory of the engine or of the control plane on a disk of its own, on which so much is free.

    What was there comes back at the end. Nobody may have a sandbox.
    """
    pool, unit, image = machine.unit("container-pool"), machine.unit("sandboxd"), f"{HOME}/disk.img"
    engine = "docker.socket docker containerd"
    stop = f"docker stop traefik; systemctl stop {pool} {unit} haproxy {engine}"
    start = f"systemctl start {engine} haproxy {unit} {pool} && docker start traefik"
    machine.run("docker-sandbox pool stop", check=False)
    used_mb = int(machine.out(f"du --summarize --one-file-system --block-size=1M {directory}").split()[0])
    machine.run(f"truncate -s {used_mb * 11 // 10 + free_mb}M {image} && mkfs.ext4 -q -F -m 0 {image}")
    machine.run(f"{stop}; mkdir -p {HOME}/disk && mount -o loop {image} {HOME}/disk", check=False)
    machine.run(f"cp --archive --one-file-system --sparse=always {directory}/. {HOME}/disk/ && umount {HOME}/disk")
    try:
        machine.run(f"mount -o loop {image} {directory} && {start}")
        machine.run("docker-sandbox pool start --wait")
        yield directory
    finally:
        machine.run("docker-sandbox pool stop", check=False)
        # Not --recursive: what is below the small disk may be a mount as well, and stays.
        mounts = f"awk '{{print $2}}' /proc/self/mounts | grep '^{directory}/' | sort --reverse"
        inside = f"{mounts} | xargs --no-run-if-empty umount"
        machine.run(f"{stop}; {inside}; umount {directory}; {start}", check=False)
        machine.run(f"rm -f {image}; docker-sandbox pool start --wait", check=False)


@pytest.mark.parametrize("place", ["state", "engine"])
def test_a_full_disk_refuses_what_is_new_and_loses_nothing(machine: Machine, clock: Clock, place: str) -> None:
    """The disk of the sandboxes' files and the ledger; and that of Docker's images and containers."""
    ready(machine)
    directory = machine.settings.state if place == "state" else "/var/lib/docker"
    with nobody_else(machine), small_disk(machine, directory, 3000), machine.sandbox("--keep") as sandbox:
        sandbox.run("echo well >index.html")
        sandbox.serve("python3 -m http.server 8000")
        started, page = sandbox.inspect()["State"]["StartedAt"], sandbox.url()
        free = f"df --block-size=1 --output=avail {directory} | tail -n 1"
        with machine.sandbox("--keep") as other:
            machine.run(f"fallocate -l $(($({free}) - {300 << 20})) {directory}/fill")
            refused = machine.run("docker-sandbox init --cold", check=False)
            assert refused.returncode == 5 and "disk_reserve_mb" in refused.stderr
            machine.run(f"rm {directory}/fill; dd if=/dev/zero of={directory}/fill bs=1M; sync", check=False)
            assert int(machine.out(free)) < 1 << 20
            assert machine.request("GET", page).text == "well\n"
            assert sandbox.out("echo alive") == "alive"
            said = machine.run(f"docker-sandbox kill {other.id}", check=False)
            assert said.returncode in (0, 5) and "Traceback" not in said.stderr
            assert findings(machine)[f"disk-{place}"] == "fail"
            machine.run(f"rm {directory}/fill")
            clock.start()
            clock.back(machine, page, f"full disk of the {place}, once there is space")
            machine.run(f"docker-sandbox kill {other.id}", check=False)
        with machine.sandbox("--cold") as new:
            assert new.out("echo again") == "again"
        assert sandbox.out("cat /code/index.html") == "well"
        assert sandbox.inspect()["State"]["StartedAt"] == started
        machine.run(f"docker-sandbox kill {sandbox.id}")


def findings(machine: Machine) -> dict[str, str]:
    """Of the doctor: name -> level."""
    return {name: one["level"] for name, one in machine.findings().items()}


@contextmanager
def spoilt(machine: Machine, file: str, content: str) -> Iterator[None]:
    """A file with another content, until the end of the block."""
    machine.run(f"cp --archive {file} {file}.before")
    try:
        machine.run(f"printf -- {shlex.quote(content)} >{file}")
        yield
    finally:
        machine.run(f"[ ! -e {file}.before ] || mv {file}.before {file}")


def mended(machine: Machine, file: str) -> None:
    machine.run(f"mv {file}.before {file} && touch {file}")


@contextmanager
def page(machine: Machine) -> Iterator[tuple[Sandbox, str]]:
    with machine.sandbox() as sandbox:
        sandbox.run("echo well >index.html")
        sandbox.serve("python3 -m http.server 8000")
        yield sandbox, sandbox.url()


@pytest.mark.parametrize("content", ["no route at all\\n", "\\0\\377\\n", ""])
def test_a_spoilt_map_file_is_noticed_and_written_anew(machine: Machine, clock: Clock, content: str) -> None:
    """The gateway goes on with what it has in memory, and starts again with what the ledger says."""
    routes = f"{machine.settings.state}/routes.map"
    with page(machine) as (_, url), spoilt(machine, routes, content):
        assert machine.request("GET", url).text == "well\n"
        if machine.run("docker-sandbox routes status --quiet", check=False).returncode:
            assert findings(machine)["routes"] != "ok"
        clock.start()
        machine.run("systemctl restart haproxy", check=False)
        clock.back(machine, url, "map file spoilt, and a gateway that reads it")
        eventually(lambda: findings(machine)["routes"], lambda level: level == "ok", 60, "routes in step")
        machine.run(f"rm -f {routes}.before")


def test_a_spoilt_configuration_stops_a_start_with_words_and_nothing_that_runs(machine: Machine, clock: Clock) -> None:
    file, unit = f"{machine.settings.etc}/config.toml", machine.unit("sandboxd")
    with page(machine) as (sandbox, url):
        with spoilt(machine, file, "default_port = = 1\\n"):
            assert machine.request("GET", url).text == "well\n"
            assert machine.run("docker-sandbox list", check=False).returncode != 0
            machine.run(f"systemctl restart {unit}", check=False)
            log = f"journalctl --unit {unit} --no-pager --lines 20 --output cat"
            eventually(lambda: machine.out(log), lambda text: f"{file}: not valid TOML" in text, 30, "complaint")
            said = machine.run("docker-sandbox list", check=False).stderr
            assert file in said and "Traceback" not in said
            assert machine.request("GET", url).text == "well\n", "the gateway does not need it"
            mended(machine, file)
            clock.start()
            clock.back(machine, url, "configuration spoilt, once it is mended")
        assert sandbox.out("echo alive") == "alive"


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"])
def test_a_spoilt_certificate_is_noticed_and_comes_back(machine: Machine, clock: Clock, content: str) -> None:
    """While Traefik runs it keeps the one that it has read; the doctor looks at what is served, if anything is."""
    file, tls = "/etc/traefik/certs/wildcard.pem", "/etc/traefik/dynamic/tls.yml"
    with page(machine) as (sandbox, url):
        with spoilt(machine, file, content):
            machine.run("docker restart traefik")
            eventually(lambda: edge(machine), lambda levels: "fail" in levels, 60, "finding")
            assert sandbox.out("echo alive") == "alive", "the command line needs none"
            mended(machine, file)
            clock.start()
            machine.run(f"touch {tls}")
            clock.back(machine, url, "certificate spoilt, once it is mended")
        assert edge(machine) == {"ok"}


def edge(machine: Machine) -> set[str]:
    found = findings(machine)
    return {found["traefik"], found["certificate"]}


def deploying(machine: Machine) -> subprocess.Popen[str]:
    pyinfra = str(Path(sys.executable).with_name("pyinfra"))
    return subprocess.Popen(
        [pyinfra, "inventory.py", "deploy.py", "--yes", "--fail-percent", "0"],
        cwd=ROOT,
        env=machine.environment() | {"PYINFRA_PROGRESS": "off"},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_two_deploys_at_once_are_one_deploy_and_one_refusal(machine: Machine) -> None:
    """Of a host that needs one: the second changes nothing, and the first is not disturbed."""
    with page(machine) as (_, url):
        machine.run("echo '# half' >>/etc/haproxy/haproxy.cfg")
        both = [deploying(machine), deploying(machine)]
        said = {process: process.communicate(timeout=600)[0] for process in both}
        assert sorted(process.returncode != 0 for process in both) == [False, True], list(said.values())
        refusal = next(text for process, text in said.items() if process.returncode)
        assert "another deploy or plan has been at work there since" in refusal and "kill " in refusal
        assert machine.request("GET", url).text == "well\n"
        assert machine.run("grep '# half' /etc/haproxy/haproxy.cfg", check=False).returncode == 1
        assert machine.deploy().changed == [], "the turn ended with the connection, and all was done"
