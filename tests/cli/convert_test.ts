import { assertEquals, assertStringIncludes } from "@std/assert";
import { tempFolder } from "../support/models.ts";
import { runCli } from "./support.ts";

const DATA = new URL("../data/checkpoints/", import.meta.url).pathname;

Deno.test("convert lists the values that it leaves out, and --root selects another part", async () => {
  const file = `${DATA}roots.pt`;
  const [first, ema, none, unknown] = await Promise.all([
    runCli("convert", file, "--dry-run"),
    runCli("convert", file, "--dry-run", "--root", "state_dict_ema"),
    runCli("convert", file, "--dry-run", "--root", "none"),
    runCli("convert", file, "--dry-run", "--root", "ema"),
  ]);
  assertStringIncludes(first.stdout, "Tensors: 7 tensors of ");
  assertStringIncludes(first.stdout, "Left out: 19 tensors and 1 value that is not a tensor; --root NAME");
  assertStringIncludes(first.stdout, "\n  7 tensors in state_dict_ema: dict of 7 entries\n");
  assertStringIncludes(first.stdout, "\n  epoch: int 3");
  assertStringIncludes(ema.stdout, "\n  7 tensors in state_dict: OrderedDict of 7 entries\n");
  assertStringIncludes(none.stdout, "Tensors: 26 tensors of ");
  assertEquals(unknown.code, 1);
  assertStringIncludes(unknown.stderr, '"state_dict_ema" (7 tensors)');
});

Deno.test("convert writes beside a .ckpt, and prints the size after a cast", async () => {
  await using folder = await tempFolder();
  const file = `${folder.path}/model.ckpt`;
  await Deno.copyFile(`${DATA}bare.pt`, file);
  const { code, stdout } = await runCli("convert", file, "--dtype", "BF16");
  assertEquals(code, 0);
  assertStringIncludes(stdout, `Wrote: ${folder.path}/model.safetensors\n`);
  assertStringIncludes(
    stdout,
    "Tensors: 1 tensor of 12 bytes (24 bytes in the checkpoint; F32 cast to BF16)",
  );
  const again = await runCli("convert", `${folder.path}/model.safetensors`);
  assertEquals(again.code, 1);
  assertStringIncludes(again.stderr, "it is a safetensors file");
});

Deno.test("convert accepts one input, and limits by name", async () => {
  const file = `${DATA}bare.pt`;
  const [two, limit, wrong] = await Promise.all([
    runCli("convert", "-i", file, "-i", file),
    runCli("convert", file, "--dry-run", "--limit", "maxOpcodes=3"),
    runCli("convert", file, "--dry-run", "--limit", "many"),
  ]);
  assertEquals([two.code, limit.code, wrong.code], [2, 1, 2]);
  assertStringIncludes(limit.stderr, "3 are allowed (--limit maxOpcodes=N allows more)");
  assertStringIncludes(wrong.stderr, "--limit must be a name and a number");
});

/** A folder with copies of checkpoints: name → the name in the data, or null for a damaged one. */
async function checkpoints(folder: string, files: Readonly<Record<string, string | null>>): Promise<void> {
  for (const [name, from] of Object.entries(files)) {
    if (from === null) {
      await Deno.writeFile(`${folder}/${name}`, (await Deno.readFile(`${DATA}bare.pt`)).subarray(0, 200));
    } else await Deno.copyFile(`${DATA}${from}`, `${folder}/${name}`);
  }
}

function namesIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
}

Deno.test("convert converts the checkpoints of a folder one by one, and goes on after a bad one", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await checkpoints(path, {
    "a.pt": null,
    "b.ckpt": "roots.pt",
    "c.pth.tar": "keys.pt",
    "optimizer.pt": "bare.pt",
  });
  const { code, stdout, stderr } = await runCli("convert", `${path}/`);
  assertEquals(code, 1);
  assertEquals(stderr, `error: 1 of 3 checkpoints could not be converted, the first is "${path}/a.pt"\n`);
  assertStringIncludes(stdout, `${path}/a.pt\n  Failed: Cannot read checkpoint "${path}/a.pt": `);
  assertStringIncludes(
    stdout,
    `${path}/b.ckpt\n  Wrote: ${path}/b.safetensors\n  Tensors: 7 tensors of 116 bytes\n`,
  );
  assertStringIncludes(stdout, '\n2 of 3 checkpoints were converted\nNote: left out: "optimizer.pt"\n');
  assertEquals(namesIn(path).filter((name) => name.endsWith(".safetensors")), [
    "b.safetensors",
    "c.safetensors",
  ]);
  assertStringIncludes((await runCli("inspect", `${path}/c.safetensors`)).stdout, "11 tensors of 44 bytes");

  const again = await runCli("convert", path, "-o", `${path}/new/`, "--dtype", "BF16", "--json");
  assertEquals(again.code, 1);
  const { converted, failed, leftOut } = JSON.parse(again.stdout);
  assertEquals(converted.map(({ input, paths }: { input: string; paths: string[] }) => [input, paths]), [
    [`${path}/b.ckpt`, [`${path}/new/b.safetensors`]],
    [`${path}/c.pth.tar`, [`${path}/new/c.safetensors`]],
  ]);
  assertEquals([failed.length, failed[0].input, leftOut], [1, `${path}/a.pt`, ["optimizer.pt"]]);
  assertEquals(namesIn(`${path}/new`), ["b.safetensors", "c.safetensors"]);
});

Deno.test("convert converts checkpoints one by one that differ in a number and have the same tensors", async () => {
  for (const bad of [false, true]) {
    await using folder = await tempFolder();
    const { path } = folder;
    await checkpoints(path, {
      "epoch-1.pt": "keys.pt",
      "epoch-2.pt": bad ? null : "keys.pt",
      "epoch-3.pt": "keys.pt",
    });
    const { code, stdout } = await runCli("convert", path);
    assertEquals(code, bad ? 1 : 0);
    assertStringIncludes(stdout, `${bad ? 2 : 3} of 3 checkpoints were converted\n`);
  }
});

Deno.test("convert --each converts also the checkpoints beside a model, and never two to one file", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await checkpoints(path, { "pytorch_model.bin": "keys.pt", "x.bin": "roots.pt", "x.pt": "keys.pt" });
  const one = await runCli("convert", path, "--dry-run");
  assertEquals(one.code, 0);
  assertStringIncludes(one.stdout, `Would write: ${path}/model.safetensors\nTensors: 11 tensors`);
  const each = await runCli("convert", path, "--each", "--overwrite");
  assertEquals(each.code, 1);
  assertStringIncludes(each.stdout, `  Wrote: ${path}/pytorch_model.safetensors\n`);
  assertStringIncludes(
    each.stdout,
    `Cannot save "${path}/x.safetensors": it is the result of "${path}/x.bin"`,
  );
  assertStringIncludes((await runCli("inspect", `${path}/x.safetensors`)).stdout, "7 tensors");

  const wrong = await runCli("convert", path, "--each", "-o", `${path}/out.safetensors`);
  assertEquals(wrong.code, 2);
  assertStringIncludes(wrong.stderr, `error: -o must be a folder for the checkpoints in "${path}"`);
  const cast = await runCli("convert", path, "--each", "--dtype", "I64");
  assertEquals([cast.code, cast.stdout], [2, ""]);
});
