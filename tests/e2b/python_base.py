"""What E2B's own tests and examples expect of a sandbox's image, and of a host that is busy or patient."""

import inspect
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import e2b
from e2b import CommandExitException, Sandbox
from report import Absent, features_of, main, raises

QUIET_S = 70  # longer than the minute that clients and proxies like to take for the end
MANY = 30
XATTRS = 'import os; open("x", "w"); os.setxattr("x", "user.a", b"1"); print(os.listxattr("x"))'


def create(**options: Any) -> Sandbox:
    """Clients wait for a minute if nothing else is said, in which a busy host does not make MANY."""
    return Sandbox.create(timeout=300, request_timeout=300, **options)


def feature_programs_of_the_base_template() -> None:
    with create() as sandbox:
        for command in (
            "python --version && python3 --version",
            "sudo -n whoami | grep -x root",
            "git --version && curl --version && node --version && npm --version",
            "tput -T xterm-256color cols",
            f"python3 -c {XATTRS!r}",
        ):
            done = sandbox.commands.run(command)
            assert done.stdout, command


def feature_templates_under_the_names_that_skills_ask_for() -> None:
    for size, cpus, memory_mb in (("", 2, 2048), ("-max", 8, 8192)):
        with create(template=f"fullstack-vue-fastapi-node22{size}") as sandbox:
            info = sandbox.get_info()
            assert (info.cpu_count, info.memory_mb) == (cpus, memory_mb), info
            for command in (
                "node --version",
                "npm --version",
                "uv --version",
                "sqlite3 --version",
                "python3 --version",
            ):
                assert sandbox.commands.run(command).stdout, command
            sandbox.commands.run("uv venv --quiet .venv && .venv/bin/python --version")
            assert sandbox.commands.run("python3 -c 'import fastapi, uvicorn; print(1)'").stdout == "1\n"


def feature_pip_installs_for_the_user() -> None:
    with create() as sandbox:
        sandbox.commands.run("pip install --quiet tomlkit==0.13.3 2>&1", timeout=120)
        assert sandbox.commands.run("python3 -c 'import tomlkit; print(tomlkit.__name__)'").stdout == "tomlkit\n"


def feature_git_with_a_daemon() -> None:
    """How E2B's tests of `sandbox.git` get a remote without the internet."""
    with create() as sandbox:
        sandbox.commands.run("git init --bare remote.git && touch remote.git/git-daemon-export-ok")
        serve = "git daemon --reuseaddr --base-path=/home/user --export-all --enable=receive-pack --listen=127.0.0.1"
        sandbox.commands.run(serve, background=True, timeout=0)
        clone = (
            "for _ in $(seq 50); do git clone -q git://127.0.0.1/remote.git work 2>/dev/null && break; sleep 0.1; done"
        )
        sandbox.commands.run(f"{clone}; test -d work")
        if not hasattr(sandbox, "git"):
            raise Absent("the client has no `git`")
        sandbox.git.configure_user("Tester", "tester@example.com")
        sandbox.files.write("/home/user/work/a.txt", "a")
        sandbox.git.add("/home/user/work")
        sandbox.git.commit("/home/user/work", "first")
        sandbox.commands.run("git push -q origin HEAD:refs/heads/main", cwd="/home/user/work")
        assert "first" in sandbox.commands.run("git -C remote.git log --oneline main").stdout
        assert sandbox.git.status("/home/user/work").is_clean


def feature_metadata_of_files() -> None:
    with create() as sandbox:
        try:
            sandbox.files.write("/home/user/a.txt", "a", metadata={"Who": "me"})  # type: ignore[call-arg,unused-ignore]
        except TypeError:
            raise Absent("the client knows no metadata of files") from None
        info: Any = sandbox.files.get_info("/home/user/a.txt")
        assert info.metadata == {"who": "me"}, info
        sandbox.files.write("/home/user/a.txt", "b")
        again: Any = sandbox.files.get_info("/home/user/a.txt")
        assert not again.metadata, again


def feature_list_filters() -> None:
    try:
        before: Any = e2b.SandboxQuery(started_after=datetime.now(UTC) - timedelta(seconds=60), template="base")  # type: ignore[call-arg,unused-ignore]
    except TypeError:
        raise Absent("the client filters by metadata and state only") from None
    with create() as sandbox:
        listed = {one.sandbox_id: one for one in Sandbox.list(query=before).next_items()}
        assert sandbox.sandbox_id in listed
        exactly: Any = e2b.SandboxQuery(started_after=listed[sandbox.sandbox_id].started_at)
        assert sandbox.sandbox_id in [one.sandbox_id for one in Sandbox.list(query=exactly).next_items()]
        for none in ({"template": "no-such-template"}, {"started_after": datetime.now(UTC) + timedelta(hours=1)}):
            other: Any = e2b.SandboxQuery(**none)  # type: ignore[arg-type,unused-ignore]
            assert not Sandbox.list(query=other).next_items()


def feature_plain_http_previews_lead_to_https() -> None:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    with create() as sandbox:
        host = sandbox.get_host(8000)
        opener = urllib.request.build_opener(Stay)
        error: Any = raises(urllib.error.HTTPError, opener.open, f"http://{host}/a?b=c")
        assert error.code in (301, 302, 307, 308) and error.headers["Location"] == f"https://{host}/a?b=c", error


def feature_a_restart_of_the_server_is_not_noticed() -> None:
    with create() as sandbox:
        handle = sandbox.commands.run("sleep 5; echo survived", background=True, timeout=0)
        subprocess.run(["systemctl", "restart", os.environ["SANDBOXD_UNIT"]], check=True)
        assert sandbox.commands.run("echo the token is good").stdout == "the token is good\n"
        assert handle.wait().stdout == "survived\n"
        deadline = time.monotonic() + 60
        while True:
            try:
                again = Sandbox.connect(sandbox.sandbox_id)
                break
            except Exception:  # the server begins
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert again.commands.run("echo again").stdout == "again\n"


def feature_one_origin_for_all_sandboxes() -> None:
    """By URLs in place of the domain: the client then names the sandbox in headers."""
    if "sandbox_url" not in inspect.signature(e2b.ConnectionConfig.__init__).parameters:
        raise Absent("the client knows no E2B_SANDBOX_URL")
    domain = os.environ.pop("E2B_DOMAIN")
    urls = {"E2B_API_URL": f"https://api.{domain}", "E2B_SANDBOX_URL": f"https://sandbox.{domain}"}
    os.environ.update(urls)
    try:
        with create() as sandbox:
            assert sandbox.commands.run("echo by URL").stdout == "by URL\n"
            sandbox.files.write("a.txt", "a")
            again = Sandbox.connect(sandbox.sandbox_id)
            assert again.files.read("a.txt") == "a" and again.is_running()
            assert again.get_host(8000) == f"8000-{sandbox.sandbox_id}.{domain}"
        assert not again.is_running()
    finally:
        for name in urls:
            del os.environ[name]
        os.environ["E2B_DOMAIN"] = domain


def feature_kill_during_a_command_is_told_at_once() -> None:
    sandbox = create()
    handle = sandbox.commands.run("sleep 1000", background=True, timeout=0)
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(handle.wait)
        assert sandbox.kill() is True
        error = waiting.exception(timeout=30)
    assert error is not None and not isinstance(error, CommandExitException), error


def feature_a_quiet_command() -> None:
    """Nothing is said for longer than a minute, by several ways at a time."""
    with create() as sandbox, ThreadPoolExecutor(3) as several:
        foreground = several.submit(sandbox.commands.run, f"sleep {QUIET_S}; echo woke", timeout=0)
        handle = sandbox.commands.run(f"sleep {QUIET_S}; echo woke too", background=True, timeout=0)
        background = several.submit(handle.wait)
        server = f"import time; time.sleep({QUIET_S}); print('served')"
        limited = several.submit(sandbox.commands.run, f'python3 -c "{server}"', timeout=QUIET_S + 120)
        assert foreground.result().stdout == "woke\n"
        assert background.result().stdout == "woke too\n"
        assert limited.result().stdout == "served\n"


def feature_many_creates_at_once() -> None:
    with ThreadPoolExecutor(MANY) as several:
        made = list(several.map(lambda _: create(), range(MANY)))
        try:
            said = list(several.map(lambda one: one.commands.run("echo $E2B_SANDBOX_ID").stdout.strip(), made))
        finally:
            list(several.map(lambda one: one.kill(), made))
    assert said == [one.sandbox_id for one in made] and len(set(said)) == MANY


def feature_a_background_server_outlives_its_client() -> None:
    """The client was a process, which ended; the timeout that it gave is not for those who are not there."""
    sandbox = create()
    try:
        program = (
            "import sys; from e2b import Sandbox; Sandbox.connect(sys.argv[1]).commands.run("
            "'sleep 1; python3 -m http.server 5600 --bind 127.0.0.1', background=True, timeout=3)"
        )
        subprocess.run([sys.executable, "-c", program, sandbox.sandbox_id], check=True)
        time.sleep(5)
        again = Sandbox.connect(sandbox.sandbox_id)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"https://{again.get_host(5600)}/") as answer:
                    assert answer.status == 200
                break
            except urllib.error.HTTPError as error:
                assert time.monotonic() < deadline, error
                time.sleep(0.2)
    finally:
        sandbox.kill()


if __name__ == "__main__":
    main(features_of(globals()))
