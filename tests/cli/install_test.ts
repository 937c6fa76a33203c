import { assertEquals } from "@std/assert";
import { tempFolder, writeFile } from "../support/models.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

Deno.test("deno install creates one command from the export cli", async () => {
  await using folder = await tempFolder();
  const { exports, version } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  const options = { cwd: folder.path, env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" } };
  const install = await new Deno.Command(Deno.execPath(), {
    ...options,
    args: [
      ...["install", "--global", "-A", "--name", "fastsafetensors", "--root", folder.path],
      ...["--import-map", `${ROOT}deno.json`, `${ROOT}${exports["./cli"]}`],
    ],
  }).output();
  const decoder = new TextDecoder();
  assertEquals(install.code, 0, decoder.decode(install.stderr));
  await writeFile(`${folder.path}/x.safetensors`, [{ name: "x", dtype: "F32", shape: [2] }]);
  const run = async (...args: string[]) => {
    const { stdout } = await new Deno.Command(`${folder.path}/bin/fastsafetensors`, { ...options, args })
      .output();
    return decoder.decode(stdout);
  };
  assertEquals(await run("--version"), `fastsafetensors ${version}\n`);
  assertEquals(
    await run("inspect", "x.safetensors"),
    "x  F32  [2]  8 bytes\n\nF32  1 tensor  8 bytes\n\n1 tensor of 8 bytes in 1 file\n",
  );
});
