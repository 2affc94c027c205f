"""One sandbox: the verbs, and its limits, proven from inside and read from the kernel's own files."""

import re
import shlex

import pytest

from tests.host.machine import Machine, eventually

CGROUP = "cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}"


def test_init_prints_the_id_and_nothing_else(machine: Machine) -> None:
    done = machine.run("docker-sandbox init")
    try:
        assert re.fullmatch(r"[0-9a-f]{12}\n", done.stdout) and done.stderr == ""
        name = f"docker ps --filter id={done.stdout.strip()} --format '{{{{.Names}}}}'"
        wanted = re.compile(rf"{machine.project}-qa-\d{{8}}-\d{{6}}-\d{{3}}")
        # sandboxd renames a member of the pool after it was handed out.
        eventually(lambda: machine.out(name), lambda seen: bool(wanted.fullmatch(seen)), 30, "name of a sandbox in use")
    finally:
        machine.run(f"docker-sandbox kill {done.stdout.strip()}")


@pytest.mark.parametrize("option", ["", "--cold"])
def test_it_has_a_network_a_disk_labels_and_a_url_of_its_own(machine: Machine, option: str) -> None:
    with machine.sandbox(option) as sandbox:
        found = sandbox.inspect()
        labels = found["Config"]["Labels"]
        slot = labels["sandbox.slot"]
        assert labels["sandbox.project"] == machine.project
        assert labels["sandbox.template"] == machine.settings.default_template
        assert list(found["NetworkSettings"]["Networks"]) == [f"{machine.project}-net-{slot}"]
        mounts = {mount["Destination"]: mount["Source"] for mount in found["Mounts"]}
        assert mounts["/code"] == f"{machine.settings.state}/mounts/{slot}"
        assert found["HostConfig"]["Init"]
        assert sandbox.url() == f"https://qa-{sandbox.id}.{machine.settings.domain}"
        assert sandbox.url(5173) == f"https://5173-{sandbox.id}.{machine.settings.domain}"


def test_memory_is_limited_and_there_is_no_swap(machine: Machine) -> None:
    limit = machine.settings.sandbox_memory_mb * 1024 * 1024
    with machine.sandbox() as sandbox:
        assert sandbox.out(CGROUP.format(v2="memory.max", v1="memory/memory.limit_in_bytes")) == str(limit)
        swap = sandbox.out(CGROUP.format(v2="memory.swap.max", v1="memory/memory.memsw.limit_in_bytes"))
        assert swap in ("0", str(limit))
        fill = f"python3 -c 'b = bytearray(); [b.extend(b\"x\" * 1048576) for _ in range({limit // 1048576 + 100})]'"
        assert sandbox.run(fill, check=False).returncode == 137
        assert sandbox.out("echo alive") == "alive"


def test_processors_are_limited(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        read = (
            "cat /sys/fs/cgroup/cpu.max 2>/dev/null || "
            "echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us)"
        )
        quota, period = sandbox.out(read).split()
    assert int(quota) / int(period) == machine.settings.sandbox_cpus


def test_processes_are_limited(machine: Machine) -> None:
    limit = machine.settings.sandbox_pids
    program = (
        "import os, signal\n"
        "children = []\n"
        f"for _ in range({limit + 50}):\n"
        "    try:\n"
        "        pid = os.fork()\n"
        "    except BlockingIOError:\n"
        "        break\n"
        "    if pid == 0:\n"
        "        signal.pause()\n"
        "    children.append(pid)\n"
        "for pid in children:\n"
        "    os.kill(pid, signal.SIGKILL)\n"
        "print(len(children))\n"
    )
    with machine.sandbox() as sandbox:
        assert sandbox.out(CGROUP.format(v2="pids.max", v1="pids/pids.max")) == str(limit)
        made = int(sandbox.run("python3 -", stdin=program.encode()).stdout)
        assert limit - 30 < made < limit
        assert sandbox.out("echo alive") == "alive"


def test_exec_streams_apart_and_returns_the_exit_code(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        done = sandbox.run("echo out; echo err >&2; exit 7", check=False)
        assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
        assert sandbox.run("kill -9 $$", check=False).returncode == 137
        assert sandbox.run("sort", stdin=b"b\na\n").stdout == "a\nb\n"
        assert sandbox.out("pwd; echo $A; id -un", "--cwd /tmp --env A=1 --user root") == "/tmp\n1\nroot"
        assert sandbox.run("sleep 60", "--timeout 500ms", check=False).returncode in (2, 124)
        assert sandbox.run("sleep 60", "--timeout 1s", check=False).returncode == 124
        eventually(lambda: sandbox.out("pgrep -c sleep || true"), lambda count: count == "0", 30, "end of both")


def test_a_background_command_lives_on(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        pid = int(sandbox.out("exec sleep 300", "--background"))
        # Until its shell has done with the profile it is the shell.
        eventually(lambda: sandbox.out(f"ps -o comm= -p {pid}"), lambda name: name == "sleep", 30, "command")
        sandbox.run(f"kill {pid}")


FILES = """
set -eu
cd "$(mktemp -d)"
mkdir -p site/deep
echo one >site/a
head -c 20000000 /dev/urandom >site/deep/b
chmod 755 site/a
ln -s a site/link
docker-sandbox upload ID site /code/site </dev/null
docker-sandbox download ID /code/site back </dev/null
diff -r site back
[ "$(stat -c %a back/a)" = 755 ]
[ "$(readlink back/link)" = a ]
docker-sandbox upload ID site/a /code/one </dev/null
[ "$(docker-sandbox download ID /code/one - </dev/null)" = one ]
echo piped | docker-sandbox upload ID - /code/two
rm -r "$PWD"
"""


def test_files_go_in_and_come_out(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        machine.run(FILES.replace("ID", sandbox.id))
        assert sandbox.out("cat two; stat -c %U one two site/deep/b") == "piped\nuser\nuser\nuser"


def test_kill_removes_all_that_it_had(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        slot = sandbox.inspect()["Config"]["Labels"]["sandbox.slot"]
        url = sandbox.url()
        machine.run(f"docker-sandbox kill {sandbox.id}")
        for kind in ("container ls --all", "network ls", "volume ls"):
            assert machine.out(f"docker {kind} --quiet --filter label=sandbox.slot={slot}") == "", kind
        assert machine.run(f"ls {machine.settings.state}/sandboxes/{slot}", check=False).returncode != 0
        assert machine.request("GET", url).json()["message"] == "The sandbox was not found"
        again = machine.run(f"docker-sandbox kill {sandbox.id}", check=False)
        assert again.returncode == 3 and sandbox.id in again.stderr


def test_an_id_may_be_shortened(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        others = [row["sandboxID"] for row in machine.listed() if row["sandboxID"] != sandbox.id]
        short = next(
            sandbox.id[:n] for n in range(4, 13) if not any(other.startswith(sandbox.id[:n]) for other in others)
        )
        assert machine.out(f"docker-sandbox exec {short} 'echo found'") == "found"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("exec 0123456789ab true", 3, "0123456789ab"),
        ("init --template nonsense", 3, "nonsense"),
        ("init --timeout never", 2, "never"),
        ("init --env novalue", 2, "novalue"),
        ("get-host 0123456789ab --port 70000", 2, "70000"),
        ("nonsense", 2, "nonsense"),
    ],
)
def test_bad_input_is_named(machine: Machine, arguments: str, code: int, words: str) -> None:
    before = machine.listed()
    done = machine.run(f"docker-sandbox {arguments}", check=False)
    assert done.returncode == code and words in done.stderr and done.stdout == ""
    assert machine.listed() == before


def test_the_agent_wants_its_token(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        url = sandbox.url(49983)
        assert machine.request("GET", f"{url}/health").status_code == 204
        assert machine.request("GET", f"{url}/files?path=/etc/hostname").status_code == 401
        token = sandbox.token()
        right = machine.request("GET", f"{url}/files?path=/etc/hostname", headers={"X-Access-Token": token})
        assert (right.status_code, right.text) == (200, "sandbox\n")


def test_environment_and_metadata_of_init(machine: Machine) -> None:
    value = "with 'quotes' and spaces"
    with machine.sandbox(f"--env {shlex.quote('GREETING=' + value)} --metadata task=demo --name demo") as sandbox:
        assert sandbox.out('echo "$GREETING"') == value
        row = next(row for row in machine.listed() if row["sandboxID"] == sandbox.id)
        assert row["metadata"] == {"task": "demo"} and row["name"] == "demo"


def test_a_timeout_ends_it(machine: Machine) -> None:
    sandbox = machine.out("docker-sandbox init --timeout 2s")
    machine.run(f"timeout 60 sh -c 'while docker-sandbox info {sandbox} >/dev/null 2>&1; do sleep 0.2; done'")
    assert sandbox not in [row["sandboxID"] for row in machine.listed()]
