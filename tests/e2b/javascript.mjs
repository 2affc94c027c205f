// The JavaScript client. Prints one line of JSON for each feature: {"feature", "error"}.
import assert from "node:assert/strict";
import { AuthenticationError, CommandExitError, Sandbox, Volume } from "e2b";

const options = { timeoutMs: 120_000 };

const features = {
  async create_info_kill() {
    const sandbox = await Sandbox.create({ ...options, metadata: { who: "conformance" }, envs: { FROM_CREATE: "yes" } });
    const info = await sandbox.getInfo();
    assert.equal(info.sandboxId, sandbox.sandboxId);
    assert.deepEqual(info.metadata, { who: "conformance" });
    assert.equal((await sandbox.commands.run("echo $FROM_CREATE")).stdout, "yes\n");
    assert.equal(await sandbox.isRunning(), true);
    assert.equal(await sandbox.kill(), true);
    assert.equal(await sandbox.isRunning(), false);
    assert.equal(await Sandbox.kill(sandbox.sandboxId), false);
  },
  async commands() {
    await within(async (sandbox) => {
      const done = await sandbox.commands.run("echo out; echo err >&2; pwd", { cwd: "/tmp" });
      assert.deepEqual([done.stdout, done.stderr, done.exitCode], ["out\n/tmp\n", "err\n", 0]);
      await assert.rejects(sandbox.commands.run("exit 3"), (error) => error instanceof CommandExitError && error.exitCode === 3);
      let shown = "";
      await sandbox.commands.run("for i in 1 2 3; do echo $i; sleep 0.1; done", { onStdout: (text) => (shown += text) });
      assert.equal(shown, "1\n2\n3\n");
      const handle = await sandbox.commands.run("read line; echo got $line", { background: true, stdin: true });
      await sandbox.commands.sendStdin(handle.pid, "hello\n");
      assert.equal((await handle.wait()).stdout, "got hello\n");
    });
  },
  async files() {
    await within(async (sandbox) => {
      await sandbox.files.write("/home/user/dir/a.txt", "text ü");
      assert.equal(await sandbox.files.read("/home/user/dir/a.txt"), "text ü");
      await sandbox.files.write("/home/user/empty", "");
      assert.equal(await sandbox.files.read("/home/user/empty"), "");
      assert.deepEqual((await sandbox.files.list("/home/user/dir")).map((one) => one.name), ["a.txt"]);
      assert.equal(await sandbox.files.exists("/nope"), false);
      await sandbox.files.remove("/home/user/dir");
      assert.equal(await sandbox.files.exists("/home/user/dir/a.txt"), false);
    });
  },
  async watch_a_directory() {
    await within(async (sandbox) => {
      await sandbox.files.makeDir("/home/user/watched");
      const seen = new Promise((resolve) => sandbox.files.watchDir("/home/user/watched", resolve).then(async () => {
        await sandbox.files.write("/home/user/watched/new.txt", "x");
      }));
      assert.equal((await seen).name, "new.txt");
    });
  },
  async pty() {
    await within(async (sandbox) => {
      let shown = "";
      const handle = await sandbox.pty.create({ cols: 90, rows: 30, onData: (data) => (shown += Buffer.from(data).toString()) });
      await sandbox.pty.sendInput(handle.pid, Buffer.from("stty size; exit 0\n"));
      await handle.wait();
      assert.match(shown, /30 90/);
    });
  },
  async connect_and_list() {
    await within(async (sandbox) => {
      const again = await Sandbox.connect(sandbox.sandboxId);
      assert.equal((await again.commands.run("whoami")).stdout, "user\n");
      const listed = await Sandbox.list().nextItems();
      assert.ok(listed.some((one) => one.sandboxId === sandbox.sandboxId));
    });
  },
  async volumes_and_fork() {
    const volume = await Volume.create(`conformance-${Date.now()}`);
    try {
      const sandbox = await Sandbox.create({ ...options, volumeMounts: { "/mnt/data": volume } });
      try {
        await volume.writeFile("/a.txt", "from outside");
        assert.equal(await sandbox.files.read("/mnt/data/a.txt"), "from outside");
        await sandbox.files.write("/home/user/kept.txt", "kept");
        for (const copy of await sandbox.fork({ count: 2, timeoutMs: 120_000 })) {
          assert.ok(copy instanceof Sandbox, copy);
          try {
            assert.equal(await copy.files.read("/home/user/kept.txt"), "kept");
            assert.equal(await copy.files.read("/mnt/data/a.txt"), "from outside");
          } finally {
            await copy.kill();
          }
        }
      } finally {
        await sandbox.kill();
      }
      assert.equal(await volume.readFile("/a.txt"), "from outside");
      assert.deepEqual((await volume.list("/")).map((one) => one.path), ["/a.txt"]);
      await volume.remove("/a.txt");
      assert.equal(await volume.exists("/a.txt"), false);
    } finally {
      await Volume.destroy(volume.volumeId);
    }
  },
  async errors() {
    await assert.rejects(Sandbox.create({ apiKey: "e2b_" + "0".repeat(40) }), AuthenticationError);
    await assert.rejects(Sandbox.create("no-such-template", options));
  },
};

async function within(use) {
  const sandbox = await Sandbox.create(options);
  try {
    await use(sandbox);
  } finally {
    await sandbox.kill();
  }
}

for (const [feature, run] of Object.entries(features)) {
  let error = "";
  try {
    await run();
  } catch (raised) {
    error = `${raised.name}: ${raised.message}`;
    console.error(raised);
  }
  console.log(JSON.stringify({ feature, error }));
}
process.exit(0);
