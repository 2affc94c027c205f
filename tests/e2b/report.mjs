// Runs features, each an async function, and prints one line of JSON for each: {"feature", "error", "absent"}.

export async function main(features) {
  for (const [feature, run] of Object.entries(features)) {
    let error = "";
    try {
      await run();
    } catch (raised) {
      error = `${raised.name}: ${raised.message}`;
      console.error(raised);
    }
    console.log(JSON.stringify({ feature, error, absent: "" }));
  }
  process.exit(0);
}

// Gives the sandbox to `use`, and kills it then.
export async function using(sandbox, use) {
  try {
    return await use(sandbox);
  } finally {
    await sandbox.kill();
  }
}
