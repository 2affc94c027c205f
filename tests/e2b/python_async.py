"""The asynchronous Python client."""

import asyncio
from typing import Any

import e2b
from e2b import AsyncSandbox, CommandExitException
from report import features_of, main


async def create(**options: Any) -> AsyncSandbox:
    return await AsyncSandbox.create(timeout=120, **options)


async def feature_create_info_kill() -> None:
    sandbox = await create(metadata={"who": "conformance"})
    info = await sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id and info.metadata == {"who": "conformance"}
    assert await sandbox.is_running()
    assert await sandbox.kill() is True
    assert not await sandbox.is_running()


async def feature_commands() -> None:
    async with await create() as sandbox:
        done = await sandbox.commands.run("echo out; echo err >&2")
        assert (done.stdout, done.stderr) == ("out\n", "err\n")
        try:
            await sandbox.commands.run("exit 3")
        except CommandExitException as error:
            assert error.exit_code == 3
        else:
            raise AssertionError("no error for exit code 3")


async def feature_many_commands_at_once() -> None:
    async with await create() as sandbox:
        done = await asyncio.gather(*(sandbox.commands.run(f"sleep 0.2; echo {n}") for n in range(20)))
        assert [one.stdout for one in done] == [f"{n}\n" for n in range(20)]


async def feature_files() -> None:
    async with await create() as sandbox:
        await sandbox.files.write("/home/user/a.txt", "text")
        assert await sandbox.files.read("/home/user/a.txt") == "text"
        assert "a.txt" in [one.name for one in await sandbox.files.list("/home/user")]


async def feature_watch_a_directory() -> None:
    async with await create() as sandbox:
        await sandbox.files.make_dir("/home/user/watched")
        seen: asyncio.Queue[Any] = asyncio.Queue()
        watch = await sandbox.files.watch_dir("/home/user/watched", on_event=seen.put_nowait)
        await sandbox.files.write("/home/user/watched/new.txt", "x")
        assert (await asyncio.wait_for(seen.get(), 60)).name == "new.txt"
        await watch.stop()


async def feature_pty() -> None:
    async with await create() as sandbox:
        shown: list[bytes] = []
        handle = await sandbox.pty.create(e2b.PtySize(rows=30, cols=90), on_data=shown.append)
        await sandbox.pty.send_stdin(handle.pid, b"stty size; exit 0\n")
        await handle.wait()
        assert b"30 90" in b"".join(shown), shown


async def feature_template_build() -> None:
    template = e2b.AsyncTemplate().from_template("base").run_cmd("echo built >~/built.txt")
    await e2b.AsyncTemplate.build(template, "conformance-async", cpu_count=1, memory_mb=512)
    assert await e2b.AsyncTemplate.exists("conformance-async")
    async with await create(template="conformance-async") as sandbox:
        assert await sandbox.files.read("/home/user/built.txt") == "built\n"


async def feature_template_build_in_background() -> None:
    template = e2b.AsyncTemplate().from_template("base").run_cmd("true")
    made = await e2b.AsyncTemplate.build_in_background(template, "conformance-async-background", memory_mb=512)
    status: Any = None
    while status is None or status.status.value in ("waiting", "building"):
        status = await e2b.AsyncTemplate.get_build_status(made)
        await asyncio.sleep(0.2)
    assert status.status.value == "ready", status


async def feature_kill_during_a_command_is_told_at_once() -> None:
    sandbox = await create()
    handle = await sandbox.commands.run("sleep 1000", background=True, timeout=0)
    waiting = asyncio.ensure_future(handle.wait())
    assert await sandbox.kill() is True
    (error,) = await asyncio.wait_for(asyncio.gather(waiting, return_exceptions=True), 30)
    assert isinstance(error, Exception) and not isinstance(error, CommandExitException), error


async def feature_errors() -> None:
    for options in ({"template": "no-such-template"}, {"api_key": "e2b_" + "0" * 40}):
        try:
            await AsyncSandbox.create(**options)
        except (e2b.SandboxException, e2b.AuthenticationException):
            continue
        raise AssertionError(f"no error for {options}")


if __name__ == "__main__":
    main(features_of(globals()))
