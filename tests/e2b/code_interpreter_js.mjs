// E2B's code interpreter client for JavaScript.
import assert from "node:assert/strict";
import { Sandbox } from "@e2b/code-interpreter";
import { main, using } from "./report.mjs";

const create = () => Sandbox.create({ timeoutMs: 300_000 });

const features = {
  async results_output_and_errors() {
    await using(await create(), async (sandbox) => {
      const done = await sandbox.runCode("import os, sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7");
      assert.deepEqual([done.text, done.logs.stdout, done.logs.stderr], ["42", ["out\n"], ["err\n"]]);
      assert.equal(done.error, undefined);
      const { error } = await sandbox.runCode("1 / 0");
      assert.equal(error.name, "ZeroDivisionError");
      assert.match(error.value, /division by zero/);
      assert.ok(error.traceback);
    });
  },
  async variables_stay_in_their_context() {
    await using(await create(), async (sandbox) => {
      await sandbox.runCode("x = 1");
      assert.equal((await sandbox.runCode("x + 1")).text, "2");
      const other = await sandbox.createCodeContext({ cwd: "/tmp" });
      assert.equal((await sandbox.runCode("x", { context: other })).error.name, "NameError");
      assert.equal((await sandbox.runCode("import os; os.getcwd()", { context: other })).text, "/tmp");
    });
  },
  async contexts_are_listed_restarted_and_removed() {
    await using(await create(), async (sandbox) => {
      const made = await sandbox.createCodeContext({ language: "python" });
      const ids = async () => (await sandbox.listCodeContexts()).map((one) => one.id);
      assert.ok((await ids()).includes(made.id));
      await sandbox.runCode("x = 1", { context: made });
      await sandbox.restartCodeContext(made);
      assert.equal((await sandbox.runCode("x", { context: made })).error.name, "NameError");
      await sandbox.removeCodeContext(made);
      assert.ok(!(await ids()).includes(made.id));
    });
  },
  async charts_are_pictures() {
    await using(await create(), async (sandbox) => {
      const done = await sandbox.runCode("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()");
      assert.ok(done.results.some((one) => one.png?.startsWith("iVBOR")), JSON.stringify(done));
    });
  },
  async other_languages() {
    await using(await create(), async (sandbox) => {
      for (const [language, code] of [["javascript", "console.log(6 * 7)"], ["bash", "echo $((6 * 7))"]]) {
        assert.deepEqual((await sandbox.runCode(code, { language })).logs.stdout, ["42\n"], language);
      }
      const typed = await sandbox.runCode("const n: number = 42; console.log(n)", { language: "typescript" });
      assert.deepEqual(typed.logs.stdout, ["42\n"]);
    });
  },
  async output_as_it_comes_and_variables_of_the_environment() {
    await using(await create(), async (sandbox) => {
      const seen = { stdout: "", stderr: "", results: [], errors: [] };
      const code = "import os, sys, time\nfor _ in range(3):\n    print(os.environ['WHO'], flush=True)\n    time.sleep(0.1)\n"
        + "print('err', file=sys.stderr)\n6 * 7";
      const options = {
        envs: { WHO: "me" },
        onStdout: (message) => (seen.stdout += message.line),
        onStderr: (message) => (seen.stderr += message.line),
        onResult: (result) => seen.results.push(result.text),
        onError: (error) => seen.errors.push(error.name),
      };
      await sandbox.runCode(code, options);
      await sandbox.runCode("1 / 0", options);
      assert.deepEqual(seen, { stdout: "me\nme\nme\n", stderr: "err\n", results: ["42"], errors: ["ZeroDivisionError"] });
    });
  },
  async packages_installed_meanwhile() {
    await using(await create(), async (sandbox) => {
      await sandbox.runCode("1");
      await sandbox.commands.run("pip install --quiet tomlkit==0.13.3 2>&1", { timeoutMs: 120_000 });
      assert.equal((await sandbox.runCode("import tomlkit; tomlkit.__name__")).text, "tomlkit");
    });
  },
  async files_and_commands_beside_it() {
    await using(await create(), async (sandbox) => {
      await sandbox.files.write("/home/user/data.csv", "a,b\n1,2\n");
      assert.equal((await sandbox.runCode("import pandas; int(pandas.read_csv('data.csv').b[0])")).text, "2");
      assert.equal((await sandbox.commands.run("whoami")).stdout, "user\n");
    });
  },
};

await main(features);
