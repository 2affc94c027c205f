// The JavaScript client.
import assert from "node:assert/strict";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuthenticationError, CommandExitError, Sandbox, Template, Volume, waitForPort } from "e2b";
import { main, using } from "./report.mjs";

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
  async pause_and_resume() {
    await within(async (sandbox) => {
      const { pid } = await sandbox.commands.run("sleep 1000", { background: true });
      await sandbox.pause();
      assert.equal(await sandbox.isRunning(), false);
      const again = await Sandbox.connect(sandbox.sandboxId, options);
      assert.ok((await again.commands.list()).some((one) => one.pid === pid));
    });
  },
  async killing_a_sandbox_breaks_its_commands() {
    await within(async (sandbox) => {
      const handle = await sandbox.commands.run("sleep 1000", { background: true, timeoutMs: 0 });
      await sandbox.kill();
      await assert.rejects(handle.wait(), (error) => !(error instanceof CommandExitError));
    });
  },
  async metrics() {
    await within(async (sandbox) => {
      const [found] = await sandbox.getMetrics();
      assert.ok(found.cpuCount >= 1 && found.memUsed > 0 && found.memUsed <= found.memTotal, JSON.stringify(found));
    });
  },
  async preview_of_a_port() {
    await within(async (sandbox) => {
      await sandbox.commands.run("python3 -m http.server 5555 --bind 127.0.0.1", { background: true });
      const deadline = Date.now() + 60_000;
      let answer;
      while (!(answer = await fetch(`https://${sandbox.getHost(5555)}/`)).ok) {
        assert.ok(Date.now() < deadline, `the server is not reached: ${answer.status}`);
      }
    });
  },
  async template_build() {
    const fileContextPath = await mkdtemp(join(tmpdir(), "context-"));
    await writeFile(join(fileContextPath, "page.html"), "built");
    const template = Template({ fileContextPath })
      .fromTemplate("base")
      .copy("page.html", "/home/user/www/index.html")
      .setEnvs({ BUILT: "yes" })
      .runCmd("echo $BUILT >/home/user/built.txt")
      .setStartCmd("python3 -m http.server 8123 --directory /home/user/www", waitForPort(8123));
    await Template.build(template, "conformance-js", { cpuCount: 1, memoryMB: 512 });
    assert.equal(await Template.exists("conformance-js"), true);
    const sandbox = await Sandbox.create("conformance-js", options);
    try {
      assert.equal(await sandbox.files.read("/home/user/built.txt"), "yes\n");
      assert.equal(await (await fetch(`https://${sandbox.getHost(8123)}/`)).text(), "built");
    } finally {
      await sandbox.kill();
    }
  },
  async template_from_dockerfile() {
    const template = Template().fromDockerfile("FROM base\nRUN echo from a Dockerfile >/opt/a.txt\nCMD [\"sleep\", \"1000\"]\n");
    await Template.build(template, "conformance-js-dockerfile", { memoryMB: 512 });
    const sandbox = await Sandbox.create("conformance-js-dockerfile", options);
    try {
      assert.equal((await sandbox.commands.run("cat /opt/a.txt; pgrep -a sleep")).stdout.split("\n")[0], "from a Dockerfile");
    } finally {
      await sandbox.kill();
    }
  },
  async template_build_in_background() {
    const made = await Template.buildInBackground(Template().fromTemplate("base").runCmd("true"), "conformance-js-later", { memoryMB: 512 });
    let status;
    do {
      await new Promise((resolve) => setTimeout(resolve, 200));
      status = (await Template.getBuildStatus(made)).status;
    } while (status === "waiting" || status === "building");
    assert.equal(status, "ready");
  },
  async template_of_an_image() {
    await assert.rejects(Template.build(Template().fromNodeImage("lts"), "conformance-js-image"), /from_template\('base'\)/);
  },
  async errors() {
    await assert.rejects(Sandbox.create({ apiKey: "e2b_" + "0".repeat(40) }), AuthenticationError);
    await assert.rejects(Sandbox.create("no-such-template", options));
  },
};

async function within(use) {
  await using(await Sandbox.create(options), use);
}

await main(features);
