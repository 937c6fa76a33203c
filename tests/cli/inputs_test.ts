/**
 * Inputs on the command line, and the messages of the commands on them.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { tempFolder, type TensorSpec, writeFile, writeShards } from "../support/models.ts";
import { runCli } from "./support.ts";

const CHECKPOINT = new URL("../data/pytorch/parameters.pt", import.meta.url).pathname;
const W: TensorSpec[] = [{ name: "w", dtype: "U8", shape: [4] }];
const V: TensorSpec[] = [{ name: "v", dtype: "U8", shape: [4] }];

Deno.test("load, inspect and verify list the files of a folder that they left out", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await writeFile(`${path}/model.safetensors`, W);
  await writeFile(`${path}/consolidated.safetensors`, W);
  await writeFile(`${path}/._model.safetensors`, W);
  const note = `Of the folder "${path}" "model.safetensors" was opened; left out: "._model.safetensors", ` +
    '"consolidated.safetensors"';
  for (const args of [["load", path], ["inspect", path], ["inspect", path, "--list"], ["verify", path]]) {
    const { code, stdout, stderr } = await runCli(...args);
    assertEquals([code, stderr], [0, ""], args.join(" "));
    assertStringIncludes(stdout.toLowerCase(), `note: ${note}`.toLowerCase());
  }
  for (const command of ["load", "inspect", "verify"]) {
    const { stdout } = await runCli(command, path, "--json");
    const { notes } = JSON.parse(stdout);
    assertEquals(notes.filter((one: string) => !one.startsWith("Portable engine")), [note], command);
  }
});

Deno.test("load, inspect and verify read PyTorch checkpoints, by their content", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  const data = new URL("../data/checkpoints/", import.meta.url).pathname;
  await Deno.copyFile(`${data}roots.pt`, `${path}/weights.safetensors`);
  await Deno.copyFile(`${data}protocol_4_legacy.pt`, `${path}/other.dat`);
  await Deno.mkdir(`${path}/only`);
  await Deno.copyFile(`${data}roots.pt`, `${path}/only/pytorch_model.bin`);
  for (const input of [`${path}/weights.safetensors`, `${path}/only`]) {
    for (const command of ["load", "inspect", "verify"]) {
      const { code, stdout, stderr } = await runCli(command, input);
      assertEquals([code, stderr], [0, ""], `${command} ${input}`);
      assertStringIncludes(stdout, "7 tensors of 116 bytes");
      assertStringIncludes(stdout, 'left out: 7 tensors in "state_dict_ema"');
      const all = await runCli(command, input, "--root", "none");
      assertStringIncludes(all.stdout, "26 tensors of ");
      const limit = await runCli(command, input, "--limit", "maxOpcodes=3");
      assertEquals(limit.code, 1);
      assertStringIncludes(limit.stderr, "3 are allowed (--limit maxOpcodes=N allows more)");
    }
  }
  assertEquals((await runCli("inspect", `${path}/other.dat`)).code, 0);
  const { stdout } = await runCli("verify", `${path}/only`, `${data}bare.pt`);
  assertStringIncludes(stdout, "Files:     2 PyTorch checkpoints, every tensor lies in its file\n");
});

Deno.test("load refuses a mix of checkpoints and safetensors files, and --root without a checkpoint", async () => {
  await using folder = await tempFolder();
  const model = `${folder.path}/m.safetensors`;
  await writeFile(model, W);
  const cases: [args: string[], message: string][] = [
    [[model, CHECKPOINT], `Cannot open these files as one model: "${CHECKPOINT}" is a PyTorch checkpoint`],
    [[CHECKPOINT, model], `Cannot open these files as one model: "${model}" is a safetensors file`],
    [[model, "--root", "x"], `--root is for PyTorch checkpoints, and "${model}" is not one`],
    [[model, "--limit", "maxOpcodes=9"], "--limit is for PyTorch checkpoints"],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await runCli("load", ...args);
    assertEquals(code, 2);
    assertStringIncludes(stderr, message);
  }
});

Deno.test("convert lists the files of a folder that it left out", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  for (const name of ["pytorch_model.bin", "optimizer.bin", "training_args.bin"]) {
    await Deno.copyFile(CHECKPOINT, `${path}/${name}`);
  }
  const { code, stdout } = await runCli("convert", "-i", path);
  assertEquals(code, 0);
  assertStringIncludes(stdout, `Wrote: ${path}/model.safetensors`);
  assertStringIncludes(stdout, 'left out: "optimizer.bin", "training_args.bin"');
});

Deno.test("load, inspect and verify accept folders, indexes and files together", async () => {
  await using one = await tempFolder();
  await using two = await tempFolder();
  await writeFile(`${one.path}/model.safetensors`, W);
  const { indexPath } = await writeShards(two.path, [V, [{ name: "u", dtype: "U8", shape: [2] }]]);
  for (const command of ["load", "inspect", "verify"]) {
    const { code, stdout } = await runCli(command, one.path, indexPath);
    assertEquals(code, 0);
    assertStringIncludes(stdout, "3 tensors of 10 bytes");
  }
});

Deno.test("verify fails if an index lists missing tensors; load and inspect print a note", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  await writeFile(`${path}/a-1-of-2.safetensors`, W);
  await writeFile(`${path}/a-2-of-2.safetensors`, V);
  const map = { w: "a-1-of-2.safetensors", v: "a-1-of-2.safetensors", tied: "a-2-of-2.safetensors" };
  await Deno.writeTextFile(`${path}/a.safetensors.index.json`, JSON.stringify({ weight_map: map }));
  for (const command of ["load", "inspect"]) {
    const { code, stdout } = await runCli(command, path);
    assertEquals(code, 0);
    assertStringIncludes(stdout, 'do not have what it lists: tensor "tied"');
  }
  const { code, stdout, stderr } = await runCli("verify", path);
  assertEquals(code, 1);
  assertStringIncludes(stdout, "Index:     2 tensors not in the file that the index names\n");
  assertStringIncludes(
    stdout,
    `  v: ${path}/a-1-of-2.safetensors expected, ${path}/a-2-of-2.safetensors has it\n`,
  );
  assertStringIncludes(stdout, `  tied: ${path}/a-2-of-2.safetensors expected, no file has it\n`);
  assertStringIncludes(stderr, "error: Verification failed: 2 tensors not in the file that the index names");
  const json = JSON.parse((await runCli("verify", path, "--json")).stdout);
  assertEquals([json.ok, json.index, json.misplaced.length], [false, true, 2]);
});

Deno.test("the commands name other commands, not functions of the library", async () => {
  await using folder = await tempFolder();
  const { path } = folder;
  const model = `${path}/my model.safetensors`;
  await writeFile(model, W);
  await Deno.copyFile(CHECKPOINT, `${path}/x.pt`);
  await Deno.writeTextFile(`${path}/page.safetensors`, "Entry not found");
  await Deno.writeTextFile(`${path}/empty.index.json`, '{"metadata": {}, "weight_map": {}}');
  const cases: [args: string[], status: number, message: string][] = [
    [
      ["convert", "-i", model, "-o", `${path}/o`],
      1,
      `it is a safetensors file: it needs no conversion: fastsafetensors load '${model}'`,
    ],
    [["convert", "-i", `${path}/x.pt`, "-o", model], 1, "it exists: --overwrite replaces it"],
    [["verify", `${path}/page.safetensors`], 1, '"Entry not found", not the file itself'],
    [["load", `${path}/empty.index.json`], 1, '"weight_map" is empty'],
    [
      ["load", "meta-llama/Llama-3.2-1B"],
      1,
      'for a model on the Hub of Hugging Face open "hf://meta-llama/Llama-3.2-1B"',
    ],
    [["load", `${path}/*.safetensors`], 1, "patterns of names are not supported"],
    [["load", "ftp://example.com/model.safetensors"], 2, "the schemes are https, http, hf, s3 and file"],
    [["load", model, model], 2, "is named twice"],
  ];
  await Promise.all(cases.map(async ([args, status, message]) => {
    const { code, stdout, stderr } = await runCli(...args);
    assertEquals([code, stdout], [status, ""], `${args.join(" ")}: ${stderr}`);
    const [line] = stderr.split("\n");
    assertStringIncludes(line!, message);
    assertEquals(/openPyTorch|fastsafeOpen|overwrite: true/.test(line!), false, line);
  }));
});
