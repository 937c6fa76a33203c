import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { tempFolder, writeFile } from "../support/models.ts";

const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

Deno.test("deno task takes paths relative to the folder of the user", async () => {
  await using folder = await tempFolder();
  const cwd = `${folder.path}/with space`;
  await Deno.mkdir(cwd);
  await writeFile(`${cwd}/my model.safetensors`, [{ name: "x", dtype: "U8", shape: [2] }]);
  // A task that runs these tests has set the variable already, to its own folder.
  const { INIT_CWD: _, ...env } = Deno.env.toObject();
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--config", CONFIG, "inspect", "my model.safetensors"],
    env: { ...env, NO_COLOR: "1" },
    clearEnv: true,
    cwd,
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  assertStringIncludes(new TextDecoder().decode(stdout), "1 tensor of 2 bytes in 1 file");
});

Deno.test("every task with paths among its arguments runs in the folder of the user", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(CONFIG));
  const commands = ["load", "inspect", "verify", "convert", "doctor", "repair"];
  const benchmarks = ["gpu", "webgpu", "ranks", "side-by-side", "scaling", "storage", "save", "latency"];
  for (
    const name of [
      ...commands,
      "save-demo",
      "build:release",
      ...benchmarks.map((one) => `bench:${one}`),
    ]
  ) {
    const { command } = tasks[name];
    assert(command.startsWith('ROOT=$PWD && cd "$INIT_CWD" && deno run -A "$ROOT/'), `${name}: ${command}`);
  }
});
