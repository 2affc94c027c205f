"""`docker-sandbox files` on a real sandbox, each action once; and the completion that the deploy installed."""

import json
import shlex

from tests.host.machine import Machine, Sandbox


def files(sandbox: Sandbox, action: str, *words: str, stdin: bytes | None = None, code: int = 0) -> str:
    """What one action prints. It must end with `code`."""
    line = shlex.join(["docker-sandbox", "files", action, sandbox.id, *words])
    done = sandbox.machine.run(line, check=False, stdin=stdin)
    assert done.returncode == code, f"{line}: exit code {done.returncode}: {done.stderr}"
    return done.stdout


def test_each_action(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        files(sandbox, "write", "/code/app/main.py", stdin=b"port = 8000\nhost = ''\n")
        assert files(sandbox, "edit", "/code/app/main.py", "--old", "8000", "--new", "8080") == "replaced 1\n"
        assert files(sandbox, "read", "app/main.py") == "port = 8080\nhost = ''\n"
        files(sandbox, "mkdir", "/code/app/static/deep")
        files(sandbox, "mv", "/code/app/main.py", "/code/app/static/")
        assert files(sandbox, "exists", "/code/app/static/main.py") == files(sandbox, "exists", "/x", code=1) == ""
        found = json.loads(files(sandbox, "info", "/code/app/static/main.py", "--json"))
        assert (found["type"], found["size"], found["mode"], found["owner"]) == ("file", 22, "0644", "user")
        rows = json.loads(files(sandbox, "ls", "app", "--depth", "2", "--json"))
        paths = ["/code/app/static", "/code/app/static/deep", "/code/app/static/main.py"]
        assert [row["path"] for row in rows] == paths
        assert " app\n" in files(sandbox, "ls")
        files(sandbox, "rm", "/code/app", code=1)
        files(sandbox, "rm", "-r", "/code/app")
        files(sandbox, "exists", "/code/app", code=1)


def test_rights_are_those_of_the_user(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        files(sandbox, "write", "/etc/mark", "--content", "x", code=1)
        files(sandbox, "write", "/etc/mark", "--content", "x", "--user", "root")
        assert sandbox.out("stat -c '%U %s' /etc/mark") == "root 1"
        assert files(sandbox, "read", "/etc/shadow", code=1) == ""
        assert files(sandbox, "read", "/etc/shadow", "--user", "root").startswith("root:")


def test_a_sandbox_that_does_not_exist(machine: Machine) -> None:
    done = machine.run("docker-sandbox files read 0123456789ab /etc/hostname", check=False)
    assert done.returncode == 3 and "0123456789ab" in done.stderr


def test_other_names_of_verbs(machine: Machine) -> None:
    sandbox = machine.out("docker-sandbox sandbox create")
    try:
        machine.run(f"echo content | docker-sandbox files upload {sandbox} - /code/file")
        assert machine.out(f"docker-sandbox files download {sandbox} /code/file -") == "content"
    finally:
        machine.run(f"docker-sandbox rm {sandbox}")


def test_bash_completes_what_the_host_has(machine: Machine) -> None:
    """From the file that the deploy wrote, as the package bash-completion reads it."""
    file = "/usr/share/bash-completion/completions/docker-sandbox"
    with machine.sandbox() as sandbox:
        offered = {}
        for words in ("info ''", "files e", "init --te"):
            typed = f"COMP_WORDS=(docker-sandbox {words}) COMP_CWORD=2"
            ask = f"source {file}; {typed}; _docker_sandbox; echo ${{COMPREPLY[*]}}"
            offered[words] = machine.out(f"bash -c {shlex.quote(ask)}").split()
    assert sandbox.id in offered["info ''"]
    assert offered["files e"] == ["exists", "edit"] and offered["init --te"] == ["--template"]
