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
  assertStringIncludes(stdout, "Tensors: 1 tensor of 12 bytes (24 bytes in the checkpoint)");
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
