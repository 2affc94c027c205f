"""The synchronous Python client. Written for every release from 2.2 on: what has another name is looked up."""

import inspect
import io
import ipaddress
import tempfile
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import e2b
from e2b import CommandExitException, Sandbox
from report import Absent, features_of, main, raises

NEW = hasattr(Sandbox, "pause")


def create(timeout: int = 120, **options: Any) -> Sandbox:
    return Sandbox.create(timeout=timeout, **options)


def pause(sandbox: Sandbox) -> None:
    (sandbox.pause if NEW else sandbox.beta_pause)()


def needs(there: bool, what: str) -> None:
    if not there:
        raise Absent(f"this release has no {what}")


def takes(option: str) -> bool:
    """Whether this release has the option of `create`."""
    return option in inspect.signature(Sandbox.create).parameters


def wait_for_page(sandbox: Sandbox, port: int, headers: dict[str, str] | None = None) -> bytes:
    """What a server inside answers, once it does."""
    request = urllib.request.Request(f"https://{sandbox.get_host(port)}/", headers=headers or {})
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline, "the server is not reached"
            time.sleep(0.1)


def seconds_left(sandbox: Sandbox) -> float:
    end: datetime = sandbox.get_info().end_at
    return (end - datetime.now(UTC)).total_seconds()


def feature_create_info_kill() -> None:
    sandbox = create(metadata={"who": "conformance"}, envs={"FROM_CREATE": "yes"})
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id and info.metadata == {"who": "conformance"}, info
    assert sandbox.is_running()
    assert sandbox.commands.run("echo $FROM_CREATE").stdout == "yes\n"
    assert sandbox.kill() is True
    assert not sandbox.is_running()
    assert Sandbox.kill(sandbox.sandbox_id) is False


def feature_as_a_context() -> None:
    with create() as sandbox:
        assert sandbox.is_running()
    assert not sandbox.is_running()


def feature_connect_only_extends() -> None:
    with create() as sandbox:
        again = Sandbox.connect(sandbox.sandbox_id, timeout=10)
        assert again.commands.run("whoami").stdout == "user\n"
        assert seconds_left(sandbox) > 60
        Sandbox.connect(sandbox.sandbox_id, timeout=600)
        assert seconds_left(sandbox) > 500


def feature_set_timeout() -> None:
    with create() as sandbox:
        sandbox.set_timeout(600)
        assert seconds_left(sandbox) > 500
        sandbox.set_timeout(30)
        assert seconds_left(sandbox) < 60


def feature_expiry() -> None:
    sandbox = Sandbox.create(timeout=1)
    deadline = time.monotonic() + 60
    while sandbox.is_running():
        assert time.monotonic() < deadline, "it outlives its timeout"
        time.sleep(0.2)
    raises(Exception, Sandbox.connect, sandbox.sandbox_id)


def feature_list_by_metadata() -> None:
    mark = str(uuid.uuid4())
    query: Any = e2b.SandboxQuery(metadata={"mark & ü": mark})
    made = [create(metadata={"mark & ü": mark}) for _ in range(3)]
    try:
        seen = []
        pages = Sandbox.list(query=query, limit=2)
        while pages.has_next:
            seen += [one.sandbox_id for one in pages.next_items()]
        assert sorted(seen) == sorted(one.sandbox_id for one in made), seen
    finally:
        for one in made:
            one.kill()


def feature_commands() -> None:
    with create() as sandbox:
        done = sandbox.commands.run("echo out; echo err >&2; pwd; echo $A", envs={"A": "1"}, cwd="/tmp")
        assert (done.stdout, done.stderr, done.exit_code) == ("out\n/tmp\n1\n", "err\n", 0), done
        failed: Any = raises(CommandExitException, sandbox.commands.run, "echo why >&2; exit 3")
        assert failed.exit_code == 3 and failed.stderr == "why\n"
        assert sandbox.commands.run("whoami", user="root").stdout == "root\n"
        shown: list[str] = []
        sandbox.commands.run("for i in 1 2 3; do echo $i; sleep 0.1; done", on_stdout=shown.append)
        assert "".join(shown) == "1\n2\n3\n"


def after(name: str) -> str:
    """A command that waits in the sandbox until /tmp/NAME is there."""
    return f"until [ -e /tmp/{name} ]; do sleep 0.1; done"


def feature_background_commands() -> None:
    with create() as sandbox:
        handle = sandbox.commands.run(f"{after('listed')}; echo done", background=True)
        assert handle.pid in [one.pid for one in sandbox.commands.list()]
        sandbox.commands.run("touch /tmp/listed")
        assert handle.wait().stdout == "done\n"
        lasting = sandbox.commands.run("sleep 1000", background=True)
        assert sandbox.commands.kill(lasting.pid) is True
        assert sandbox.commands.kill(lasting.pid + 12345) is False
        again = sandbox.commands.run(f"{after('connected')}; echo late; exit 4", background=True)
        connected = sandbox.commands.connect(again.pid)
        sandbox.commands.run("touch /tmp/connected")
        other: Any = raises(CommandExitException, connected.wait)
        assert other.exit_code == 4


def feature_stdin() -> None:
    with create() as sandbox:
        handle = sandbox.commands.run("read line; echo got $line", background=True, stdin=True)
        sandbox.commands.send_stdin(handle.pid, "hello\n")
        assert handle.wait().stdout == "got hello\n"


def feature_a_command_has_a_deadline() -> None:
    with create() as sandbox:
        raises(e2b.TimeoutException, sandbox.commands.run, "sleep 100", timeout=1)
        assert sandbox.commands.run("echo alive").stdout == "alive\n"


def feature_killing_a_sandbox_breaks_its_commands() -> None:
    sandbox = create()
    handle = sandbox.commands.run("sleep 1000", background=True)
    sandbox.kill()
    error = raises(Exception, handle.wait)
    assert not isinstance(error, CommandExitException), error


def feature_files() -> None:
    with create() as sandbox:
        written = sandbox.files.write("/home/user/dir/a.txt", "text ü")
        assert written.path == "/home/user/dir/a.txt"
        assert sandbox.files.read("/home/user/dir/a.txt") == "text ü"
        sandbox.files.write("b.bin", bytes(range(256)))
        assert bytes(sandbox.files.read("/home/user/b.bin", format="bytes")) == bytes(range(256))
        assert sandbox.files.exists("/home/user/b.bin") and not sandbox.files.exists("/nope")
        names = [one.name for one in sandbox.files.list("/home/user/dir")]
        assert names == ["a.txt"], names
        assert sandbox.files.make_dir("/home/user/new") is True and sandbox.files.make_dir("/home/user/new") is False
        moved = sandbox.files.rename("/home/user/dir/a.txt", "/home/user/new/c.txt")
        assert moved.path == "/home/user/new/c.txt"
        sandbox.files.remove("/home/user/new")
        assert not sandbox.files.exists("/home/user/new/c.txt")
        info = sandbox.files.get_info("/home/user/b.bin")
        assert info.size == 256 and info.name == "b.bin"
        raises(e2b.NotFoundException, sandbox.files.read, "/nope")


def feature_many_files_at_once() -> None:
    with create() as sandbox:
        entries: Any = [{"path": f"/home/user/many/{n}.txt", "data": f"file {n}"} for n in range(5)]
        sandbox.files.write_files(entries)
        assert sandbox.commands.run("cat many/*", cwd="/home/user").stdout == "".join(f"file {n}" for n in range(5))


def feature_a_large_file_is_streamed() -> None:
    """A gigabyte, of which neither side may keep more than pieces; old clients send all of it from memory."""
    size, patience_s = 1_000_000_000 if NEW else 20_000_000, 600  # for a disk that is busy with others
    with create(patience_s) as sandbox, tempfile.TemporaryFile() as file:
        file.truncate(size)
        sandbox.files.write("/home/user/large", file, request_timeout=patience_s)
        back = sandbox.files.read("/home/user/large", format="stream", request_timeout=patience_s)
        assert sum(len(piece) for piece in back) == size


def feature_signed_urls() -> None:
    with create() as sandbox:
        sandbox.files.write("/home/user/signed.txt", "signed")
        url = sandbox.download_url("/home/user/signed.txt", use_signature_expiration=60)
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"signed"
        raises(Exception, urllib.request.urlopen, url.replace("signature=v1_", "signature=v1_x"))


def feature_watch_a_directory() -> None:
    with create() as sandbox:
        sandbox.files.make_dir("/home/user/watched")
        watch = sandbox.files.watch_dir("/home/user/watched")
        sandbox.files.write("/home/user/watched/new.txt", "x")
        deadline = time.monotonic() + 60
        seen: list[Any] = []
        while not any(one.name == "new.txt" for one in seen):
            assert time.monotonic() < deadline, seen
            seen += watch.get_new_events()
        watch.stop()


def feature_pty() -> None:
    with create() as sandbox:
        shown: list[bytes] = []
        handle = sandbox.pty.create(e2b.PtySize(rows=30, cols=90))
        sandbox.pty.send_stdin(handle.pid, b"stty size; exit 5\n")
        error: Any = raises(CommandExitException, handle.wait, on_pty=shown.append)
        assert error.exit_code == 5 and b"30 90" in b"".join(shown), shown


def feature_preview_of_a_port() -> None:
    with create() as sandbox:
        sandbox.files.write("/home/user/www/index.html", "the page")
        sandbox.commands.run("python3 -m http.server 5555 --bind 127.0.0.1", background=True, cwd="/home/user/www")
        assert wait_for_page(sandbox, 5555) == b"the page"


def feature_pause_and_resume() -> None:
    sandbox = create()
    try:
        pid = sandbox.commands.run("sleep 1000", background=True).pid
        pause(sandbox)
        assert not sandbox.is_running()
        states = [one.state.value for one in Sandbox.list().next_items() if one.sandbox_id == sandbox.sandbox_id]
        assert states == ["paused"], states
        again = Sandbox.connect(sandbox.sandbox_id, timeout=60)
        assert pid in [one.pid for one in again.commands.list()]
    finally:
        Sandbox.kill(sandbox.sandbox_id)


def feature_requests_resume_a_sandbox() -> None:
    """Of those whose creator asked for it: the next command, or whoever opens a page."""
    needs(takes("lifecycle"), "the option lifecycle")
    sandbox = create(lifecycle={"on_timeout": "pause", "auto_resume": True})
    try:
        sandbox.files.write("/home/user/www/index.html", "the page")
        sandbox.commands.run("python3 -m http.server 5555", background=True, cwd="/home/user/www")
        wait_for_page(sandbox, 5555)
        pause(sandbox)
        assert wait_for_page(sandbox, 5555) == b"the page"
        pause(sandbox)
        assert sandbox.commands.run("echo awake").stdout == "awake\n"
        assert sandbox.get_info().lifecycle == {"on_timeout": "pause", "auto_resume": True}
    finally:
        sandbox.kill()


def feature_private_traffic() -> None:
    needs(takes("network"), "the option network")
    with create(network={"allow_public_traffic": False}) as sandbox:
        url = f"https://{sandbox.get_host(5555)}/"
        refused: Any = raises(urllib.error.HTTPError, urllib.request.urlopen, url)
        assert refused.code == 403
        sandbox.commands.run("python3 -m http.server 5555", background=True)
        token = {"e2b-traffic-access-token": sandbox.traffic_access_token}
        assert b"Directory listing" in wait_for_page(sandbox, 5555, token)


def feature_host_name_of_requests() -> None:
    needs(takes("network"), "the option network")
    program = (
        "from http.server import *\n"
        "class H(BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(self.headers['Host'].encode())\n"
        "HTTPServer(('', 5555), H).serve_forever()\n"
    )
    with create(network={"mask_request_host": "localhost:${PORT}"}) as sandbox:
        sandbox.files.write("/home/user/app.py", program)
        sandbox.commands.run("python3 app.py", background=True, cwd="/home/user")
        assert wait_for_page(sandbox, 5555) == b"localhost:5555"


def feature_metrics() -> None:
    with create() as sandbox:
        (found, *_) = sandbox.get_metrics()
        assert found.cpu_count >= 1 and 0 < found.mem_used <= found.mem_total and found.disk_total > 0, found


def feature_snapshot() -> None:
    if not hasattr(Sandbox, "create_snapshot"):
        raise Absent("the client has no snapshots")
    with create() as sandbox:
        sandbox.files.write("/home/user/kept.txt", "kept")
        made = sandbox.create_snapshot()
    with create(template=made.snapshot_id) as again:
        assert again.files.read("/home/user/kept.txt") == "kept"
    Sandbox.delete_snapshot(made.snapshot_id)


def feature_template_build() -> None:
    """Files, commands, variables and a start command that is ready when the sandbox is."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "page").mkdir()
        Path(directory, "page/index.html").write_text("built")
        template = (
            e2b.Template(file_context_path=directory)
            .from_template("base")
            .copy("page", "/home/user/www")
            .set_envs({"BUILT": "yes"})
            .run_cmd("echo $BUILT >/home/user/built.txt && sudo apt-get --version >/dev/null")
            .set_start_cmd("python3 -m http.server 8123 --directory /home/user/www", e2b.wait_for_port(8123))
        )
        named = "name" if "name" in inspect.signature(e2b.Template.build).parameters else "alias"
        e2b.Template.build(template, **{named: "conformance"}, cpu_count=1, memory_mb=512)
    with create(template="conformance") as sandbox:
        assert sandbox.files.read("/home/user/built.txt") == "yes\n"
        with urllib.request.urlopen(f"https://{sandbox.get_host(8123)}/") as answer:
            assert answer.read() == b"built"
        assert sandbox.get_info().memory_mb == 512


def reaches(sandbox: Sandbox, address: str) -> bool:
    """Whether a connection to port 443 of that address is made from inside."""
    program = f"timeout 20 bash -c '</dev/tcp/{address}/443' 2>/dev/null && echo yes || echo no"
    return bool(sandbox.commands.run(program).stdout == "yes\n")


def somewhere(sandbox: Sandbox) -> str:
    """An address whose port 443 is open: the host's own, as the sandbox sees it. Nothing leaves the host."""
    found: str = sandbox.commands.run("ip route show default | cut -d ' ' -f 3").stdout
    return found.strip()


def feature_no_internet() -> None:
    with create() as sandbox:
        address = somewhere(sandbox)
        assert reaches(sandbox, address)
    with create(allow_internet_access=False) as sandbox:
        assert not reaches(sandbox, address)
        assert sandbox.commands.run("getent hosts example.com || echo none").stdout == "none\n"
        sandbox.files.write("/home/user/a.txt", "files still go in and out")
        assert sandbox.files.read("/home/user/a.txt") == "files still go in and out"
        assert getattr(sandbox.get_info(), "allow_internet_access", False) is False


def feature_network() -> None:
    needs(takes("network"), "the option network")
    with create() as sandbox:
        address = somewhere(sandbox)
        sandbox.update_network({"deny_out": [address]})
        assert not reaches(sandbox, address)
        sandbox.update_network({})
        assert reaches(sandbox, address)
    # Another one may be on another host, which has other addresses, of the same range.
    around = str(ipaddress.ip_network(f"{address}/16", strict=False))
    options: Any = {"deny_out": ["0.0.0.0/0"], "allow_out": [around]}
    with create(network=options) as other:
        address = somewhere(other)
        assert reaches(other, address)
        info = other.get_info()
        assert info.network and info.network["allow_out"] == [around], info
        assert info.network["deny_out"] == ["0.0.0.0/0"] and info.allow_internet_access is False, info
        other.update_network({"deny_out": ["0.0.0.0/0"], "allow_out": ["192.0.2.0/24"]})
        assert not reaches(other, address)
        other.update_network({"allow_internet_access": False})
        assert not reaches(other, address)
    refused = raises(Exception, create, network={"allow_out": ["example.com"]})
    assert "'example.com' is a name, which does nothing unless" in str(refused), refused


def feature_volumes() -> None:
    """Two sandboxes and the content API share one; older clients know no volumes."""
    needs(hasattr(e2b, "Volume"), "Volume")
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    volume = e2b.Volume.create(name)
    try:
        assert name in [one.name for one in e2b.Volume.list()]
        assert e2b.Volume.connect(volume.volume_id).token == volume.token
        with create(volume_mounts={"/mnt/data": volume}) as one, create(volume_mounts={"/mnt/data": name}) as other:
            one.files.write("/mnt/data/a.txt", "from inside")
            assert other.files.read("/mnt/data/a.txt") == "from inside"
            assert volume.read_file("/a.txt") == "from inside"
            volume.make_dir("/dir/deep", force=True)
            volume.write_file("/dir/deep/b.bin", io.BytesIO(b"x" * 3_000_000), mode=0o600)
            assert one.commands.run("stat -c '%s %a %U' /mnt/data/dir/deep/b.bin").stdout == "3000000 600 user\n"
            raises(Exception, e2b.Volume.destroy, volume.volume_id)
            mounts = one.get_info().volume_mounts
            assert mounts == [{"name": name, "path": "/mnt/data"}], mounts
        size = sum(len(piece) for piece in volume.read_file("/dir/deep/b.bin", format="stream"))
        assert size == 3_000_000
        raises(Exception, volume.write_file, "/a.txt", "other", force=False)
        volume.write_file("/a.txt", "other", force=True)
        assert volume.read_file("/a.txt", format="bytes") == b"other"
        assert sorted(one.path for one in volume.list("/", depth=2)) == ["/a.txt", "/dir", "/dir/deep"]
        info = volume.update_metadata("/a.txt", uid=0, mode=0o640)
        assert (info.type.value, info.uid, info.mode, info.path) == ("file", 0, 0o640, "/a.txt"), info
        volume.remove("/dir")
        assert not volume.exists("/dir") and volume.exists("/a.txt")
        raises(e2b.NotFoundException, volume.read_file, "/dir/deep/b.bin")
    finally:
        assert e2b.Volume.destroy(volume.volume_id) is True
    assert e2b.Volume.destroy(volume.volume_id) is False


def feature_fork() -> None:
    """Files, environment and metadata; not processes."""
    needs(hasattr(Sandbox, "fork"), "fork")
    with create(metadata={"who": "fork"}, envs={"GIVEN": "yes"}) as parent:
        parent.files.write("/home/user/kept.txt", "kept")
        for copy in parent.fork(timeout=120, count=2):
            assert isinstance(copy, Sandbox), copy
            with copy:
                assert copy.files.read("/home/user/kept.txt") == "kept"
                assert copy.commands.run("echo $GIVEN").stdout == "yes\n"
                assert copy.get_info().metadata == {"who": "fork"}
        assert parent.is_running()


def feature_template_tags() -> None:
    needs(hasattr(e2b.Template, "assign_tags"), "assign_tags")
    name = f"tags-{uuid.uuid4().hex[:8]}"

    def build(tagged: str, text: str) -> Any:
        template = e2b.Template().from_template("base").run_cmd(f"echo {text} >/home/user/build.txt")
        return str(e2b.Template.build(template, tagged, cpu_count=1, memory_mb=512).build_id)

    def text_of(tagged: str) -> Any:
        with create(template=tagged) as sandbox:
            return str(sandbox.files.read("/home/user/build.txt")).strip()

    try:
        first = build(f"{name}:v1", "one")
        assigned = e2b.Template.assign_tags(f"{name}:v1", ["default", "stable"])
        assert (assigned.build_id, assigned.tags) == (first, ["default", "stable"]), assigned
        second = build(name, "two")
        found = {one.tag: one.build_id for one in e2b.Template.get_tags(name)}
        assert found == {"default": second, "v1": first, "stable": first}, found
        assert (text_of(name), text_of(f"{name}:stable")) == ("two", "one")
        e2b.Template.remove_tags(name, ["stable"])
        raises(Exception, e2b.Template.remove_tags, name, ["stable"])
        raises(Exception, create, template=f"{name}:stable")
    finally:
        Sandbox.delete_snapshot(name)


def feature_errors() -> None:
    raises(Exception, Sandbox.create, template="no-such-template")
    raises(e2b.AuthenticationException, Sandbox.create, api_key="e2b_" + "0" * 40)
    raises(Exception, Sandbox.connect, "doesnotexist")
    refused = raises(Exception, Sandbox.create, mcp={"exa": {"apiKey": "x"}})
    assert "cannot do that yet" in str(refused), refused


def feature_many_at_once() -> None:
    with ThreadPoolExecutor(8) as several:
        made = list(several.map(lambda _: create(), range(8)))
        said = list(several.map(lambda one: one.commands.run("echo $E2B_SANDBOX_ID").stdout.strip(), made))
        list(several.map(lambda one: one.kill(), made))
    assert said == [one.sandbox_id for one in made] and len(set(said)) == 8


if __name__ == "__main__":
    main(features_of(globals()))
