/**
 * Typical folders: the files of the model, and the notes on the others.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fastsafeOpen, ReadError, SafeTensorsError } from "../mod.ts";
import { openPyTorch } from "../src/pytorch/mod.ts";
import { selectEngine } from "../src/load/native/select.ts";
import { PYTORCH, SAFETENSORS } from "../src/files/model_folder.ts";
import { resolveInputs } from "../src/files/inputs.ts";
import { LocalNames } from "../src/files/native/local_names.ts";
import { fileOf, tempFolder } from "./support/models.ts";

await selectEngine(); // its library stays open after the first test

/** A safetensors file with one tensor of this name. */
function file(name: string): Uint8Array<ArrayBuffer> {
  return fileOf([{ name, dtype: "U8", shape: [2] }]).bytes;
}

/** Creates a folder with these files: an object is an index, a name alone a file with a tensor "w". */
async function folderOf(
  files:
    readonly (string | readonly [name: string, content: Uint8Array<ArrayBuffer> | Record<string, string>])[],
) {
  const folder = await tempFolder();
  for (const entry of files) {
    const [name, content] = typeof entry === "string" ? [entry, file("w")] as const : entry;
    const path = `${folder.path}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const bytes = content instanceof Uint8Array
      ? content
      : new TextEncoder().encode(JSON.stringify({ metadata: {}, weight_map: content }));
    await Deno.writeFile(path, bytes);
  }
  return folder;
}

/** Names in a folder, the opened ones, and those that a note must list as left out. */
type Case = readonly [names: readonly string[], opened: readonly string[], leftOut?: readonly string[]];

const SAFETENSORS_FOLDERS: readonly Case[] = [
  [["model.safetensors"], ["model.safetensors"]],
  [["MODEL.SAFETENSORS"], ["MODEL.SAFETENSORS"]],
  [["flux1-dev.sft"], ["flux1-dev.sft"]],
  [["anything.safetensors", "config.json", "x.txt"], ["anything.safetensors"]],
  [["model.safetensors", "._model.safetensors"], ["model.safetensors"], ["._model.safetensors"]],
  [["model.safetensors", ".model.safetensors.x.safetensors"], ["model.safetensors"], [
    ".model.safetensors.x.safetensors",
  ]],
  [["model.safetensors", "optimizer.safetensors"], ["model.safetensors"], ["optimizer.safetensors"]],
  [
    [
      "weights.safetensors",
      "optimizer_0.safetensors",
      "scheduler.safetensors",
      "scaler.safetensors",
      "rng_state_1.safetensors",
      "random_states_0.safetensors",
      "training_args.safetensors",
    ],
    ["weights.safetensors"],
    ["optimizer_0.safetensors", "random_states_0.safetensors"],
  ],
  [["model.safetensors", "model.fp16.safetensors"], ["model.safetensors"], ["model.fp16.safetensors"]],
  [
    ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.non_ema.safetensors"],
    ["diffusion_pytorch_model.safetensors"],
    ["diffusion_pytorch_model.non_ema.safetensors"],
  ],
  [["m.safetensors", "m.ema.safetensors"], ["m.safetensors"], ["m.ema.safetensors"]],
  [["diffusion_pytorch_model.fp16.safetensors"], ["diffusion_pytorch_model.fp16.safetensors"]],
  [["consolidated.safetensors", "model.safetensors"], ["model.safetensors"], ["consolidated.safetensors"]],
  [["consolidated.safetensors"], ["consolidated.safetensors"]],
  [
    [
      "consolidated-00001-of-00002.safetensors",
      "consolidated-00002-of-00002.safetensors",
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
    ],
    ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    ["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"],
  ],
  [["adapter_model.safetensors", "model.safetensors"], ["model.safetensors"], ["adapter_model.safetensors"]],
  [["adapter_model.safetensors", "my_lora.safetensors"], ["adapter_model.safetensors"], [
    "my_lora.safetensors",
  ]],
  [
    ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors", "model.safetensors"],
    ["model.safetensors"],
    ["model.fp16-00001-of-00002.safetensors"],
  ],
  [
    ["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"],
    ["model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"],
  ],
  [["w-1-of-2.safetensors", "w-2-of-2.safetensors"], ["w-1-of-2.safetensors", "w-2-of-2.safetensors"]],
  [["part_0.safetensors", "part_1.safetensors"], ["part_0.safetensors", "part_1.safetensors"]],
];

const PYTORCH_FOLDERS: readonly Case[] = [
  [["pytorch_model.bin", "optimizer.bin", "rng_state.pth"], ["pytorch_model.bin"], [
    "optimizer.bin",
    "rng_state.pth",
  ]],
  [
    ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"],
    ["pytorch_model.bin"],
    ["training_args.bin"],
  ],
  [["adapter_model.bin", "training_args.bin"], ["adapter_model.bin"], ["training_args.bin"]],
  [["model.ckpt"], ["model.ckpt"]],
  [["net.pth.tar"], ["net.pth.tar"]],
  [["net.th", "._net.th"], ["net.th"], ["._net.th"]],
  [["net.PT"], ["net.PT"]],
  [
    [
      "pytorch_model-00001-of-00002.bin",
      "pytorch_model-00002-of-00002.bin",
      "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
    ],
    ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
    ["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"],
  ],
  [["pytorch_model.bin", "pytorch_model.fp16.bin"], ["pytorch_model.bin"], ["pytorch_model.fp16.bin"]],
];

for (const [naming, folders] of [[SAFETENSORS, SAFETENSORS_FOLDERS], [PYTORCH, PYTORCH_FOLDERS]] as const) {
  Deno.test(`resolveInputs() finds the model of a folder, and lists files that it leaves out (${naming.format})`, async () => {
    for (const [names, opened, leftOut = []] of folders) {
      await using folder = await folderOf(names);
      const { paths, notes } = await resolveInputs(new LocalNames(), folder.path, { size: 1 }, naming);
      assertEquals(paths, opened.map((name) => `${folder.path}/${name}`));
      assertEquals(notes.length, leftOut.length > 0 ? 1 : 0, notes.join());
      for (const name of leftOut) assertStringIncludes(notes[0]!.split("left out:")[1]!, `"${name}"`);
    }
  });
}

Deno.test("resolveInputs() lists the choices of a folder that has several models", async () => {
  const cases: [names: readonly string[], listed: readonly string[]][] = [
    [["a.safetensors", "b.safetensors"], ["a.safetensors", "b.safetensors"]],
    [["model.fp16.safetensors", "model.bf16.safetensors"], [
      "model.bf16.safetensors",
      "model.fp16.safetensors",
    ]],
    [["x-1-of-1.safetensors", "y.safetensors", "optimizer.safetensors"], [
      "x-1-of-1.safetensors",
      "y.safetensors",
    ]],
  ];
  for (const [names, listed] of cases) {
    await using folder = await folderOf(names);
    const error = await assertRejects(
      () => resolveInputs(new LocalNames(), folder.path, { size: 1 }),
      SafeTensorsError,
    );
    assertEquals([error.code, error.path], ["SeveralModels", folder.path]);
    const list = listed.map((name) => `"${name}"`).join(", ");
    assertEquals(
      error.message,
      `Cannot choose a model in "${folder.path}": there are ${list}: open one of them`,
    );
  }
});

Deno.test("fastsafeOpen() notes the files of a folder that it left out", async () => {
  await using folder = await folderOf(["model.safetensors", "consolidated.safetensors"]);
  await using model = await fastsafeOpen(folder.path);
  assertEquals(model.info("w").path, `${folder.path}/model.safetensors`);
  const note =
    `Of the folder "${folder.path}" "model.safetensors" was opened; left out: "consolidated.safetensors"`;
  assertEquals(model.stats().notes.filter((text) => text.includes("left out")), [note]);
});

Deno.test("resolveInputs() names only the missing shards", async () => {
  const shard = (number: number) => `model-${String(number).padStart(5, "0")}-of-00004.safetensors`;
  const cases: [there: readonly number[], said: string, path: string][] = [
    [[1, 2, 4], `"${shard(3)}" is not`, shard(3)],
    [[0, 1, 2], `"${shard(3)}" is not`, shard(3)],
    [[2, 3, 4], `"${shard(1)}" is not`, shard(1)],
    [[1, 2, 3], `"${shard(0)}" or "${shard(4)}" is not`, shard(4)],
    [[0, 3], `"${shard(1)}" is not`, shard(1)],
  ];
  for (const [there, said, path] of cases) {
    await using folder = await folderOf(there.map(shard));
    const error = await assertRejects(
      () => resolveInputs(new LocalNames(), folder.path, { size: 1 }),
      SafeTensorsError,
    );
    assertEquals([error.code, error.path], ["MissingShard", `${folder.path}/${path}`]);
    assertStringIncludes(
      error.message,
      `${there.length} of 4 shards exist, ${said}`.replaceAll(' "', ` "${folder.path}/`),
    );
  }
});

Deno.test("resolveInputs() prefers an index, and notes the files that it does not name", async () => {
  await using folder = await folderOf([
    ["model.safetensors.index.json", { a: "x.safetensors", b: "y.safetensors" }],
    "x.safetensors",
    "y.safetensors",
    "projector.safetensors",
  ]);
  const { paths, indexes, notes } = await resolveInputs(new LocalNames(), folder.path, { size: 1 });
  assertEquals(paths, [`${folder.path}/x.safetensors`, `${folder.path}/y.safetensors`]);
  assertEquals(indexes.map(({ path }) => path), [`${folder.path}/model.safetensors.index.json`]);
  assertEquals(notes, [
    `Of the folder "${folder.path}" "model.safetensors.index.json" was opened; left out: "projector.safetensors"`,
  ]);
});

Deno.test("resolveInputs() opens the model if the only index belongs to other files", async () => {
  await using folder = await folderOf([
    "model.safetensors",
    ["consolidated.safetensors.index.json", { w: "consolidated-1-of-1.safetensors" }],
    "consolidated-1-of-1.safetensors",
  ]);
  const { paths, indexes, notes } = await resolveInputs(new LocalNames(), folder.path, { size: 1 });
  assertEquals([paths, indexes], [[`${folder.path}/model.safetensors`], []]);
  assertStringIncludes(notes[0]!, "consolidated-1-of-1.safetensors");
});

Deno.test("resolveInputs() prefers a complete model to an index without files", async () => {
  const index = ["model.safetensors.index.json", {
    a: "model-00001-of-00003.safetensors",
    b: "model-00002-of-00003.safetensors",
  }] as const;
  const whole = ["model.safetensors"];
  const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  for (const names of [whole, shards]) {
    await using folder = await folderOf([index, ...names]);
    const indexPath = `${folder.path}/${index[0]}`;
    for (const input of [folder.path, indexPath]) {
      const { paths, indexes, notes } = await resolveInputs(new LocalNames(), input, { size: 1 });
      assertEquals([paths, indexes], [names.map((name) => `${folder.path}/${name}`), []]);
      assertEquals(notes, [
        `The index "${indexPath}" was not used: of the 2 files that it names none is there`,
      ]);
    }
  }
  await using alone = await folderOf([index]);
  const error = await assertRejects(() => fastsafeOpen(alone.path), SafeTensorsError, "(2 are not there:");
  assertEquals(error.code, "MissingShard");
  await using some = await folderOf([index, ...whole, "model-00002-of-00003.safetensors"]);
  const missing = await assertRejects(() => fastsafeOpen(some.path), SafeTensorsError, "names this shard");
  assertEquals([missing.code, missing.path], [
    "MissingShard",
    `${some.path}/model-00001-of-00003.safetensors`,
  ]);
});

Deno.test("fastsafeOpen() opens folders, indexes and files in one list", async () => {
  await using one = await folderOf([["model.safetensors", file("a")], ["optimizer.safetensors", file("o")]]);
  await using two = await folderOf([
    ["model.safetensors.index.json", { b: "x.safetensors", c: "y.safetensors" }],
    ["x.safetensors", file("b")],
    ["y.safetensors", file("c")],
  ]);
  await using three = await folderOf([["x.safetensors.index.json", {
    d: "z.safetensors",
    e: "z.safetensors",
  }], [
    "z.safetensors",
    file("d"),
  ], ["other.safetensors", file("f")]]);
  await using model = await fastsafeOpen([
    one.path,
    two.path,
    `${three.path}/x.safetensors.index.json`,
    new URL(`file://${three.path}/other.safetensors`),
  ]);
  assertEquals(model.keys(), ["a", "b", "c", "d", "f"]);
  const { notes } = model.stats();
  assert(notes.some((note) => note.includes('left out: "optimizer.safetensors"')));
  assert(notes.some((note) => note.endsWith('do not have what it lists: tensor "e"')));
  await assertRejects(() => model.getTensor("e"), SafeTensorsError, "which does not have it");
});

Deno.test("resolveInputs() follows a folder of the Hugging Face cache to its snapshot", async () => {
  const model = (commit: string) => `snapshots/${commit}/model.safetensors`;
  const main = ["refs/main", new TextEncoder().encode("bbb\n")] as const;
  const cases: [files: Parameters<typeof folderOf>[0], snapshot: string][] = [
    [[model("aaa")], "aaa"],
    [[model("aaa"), model("bbb"), main], "bbb"],
    [[model("aaa"), main], "aaa"],
  ];
  for (const [files, snapshot] of cases) {
    await using folder = await folderOf(files);
    const { paths, notes } = await resolveInputs(new LocalNames(), folder.path, { size: 1 });
    assertEquals(paths, [`${folder.path}/${model(snapshot)}`]);
    assertStringIncludes(notes[0]!, `snapshot "${folder.path}/snapshots/${snapshot}" was opened`);
  }
  await using several = await folderOf([model("aaa"), model("bbb")]);
  const error = await assertRejects(
    () => resolveInputs(new LocalNames(), several.path, { size: 1 }),
    SafeTensorsError,
    "/aaa",
  );
  assertEquals(error.code, "SeveralModels");
  await using hub = await folderOf([`models--acme--tiny/${model("aaa")}`, "version.txt"]);
  await assertRejects(
    () => resolveInputs(new LocalNames(), hub.path, { size: 1 }),
    SafeTensorsError,
    '"models--acme--tiny"',
  );
});

Deno.test("resolveInputs() lists the content of a folder without a model", async () => {
  const cases: [names: readonly string[], part: string, format?: string][] = [
    [[], "no .safetensors file is in this folder"],
    [[
      "model_index.json",
      "unet/model.safetensors",
      "vae/diffusion_pytorch_model.fp16.safetensors",
      "tokenizer/x.json",
    ], 'the folders "unet", "vae" in it have some: open one of them'],
    [["checkpoint-500/model.safetensors"], 'the folder "checkpoint-500" in it has some: open it'],
    [["model.ckpt"], '"model.ckpt" is a PyTorch checkpoint: open the folder with openPyTorch', "pytorch"],
    [["training_args.bin", "pytorch_model.bin"], '"pytorch_model.bin" is a PyTorch checkpoint', "pytorch"],
    [["llama-q4.gguf"], '"llama-q4.gguf" is a GGUF model'],
    [
      ["__0_0.distcp", ".metadata"],
      "a distributed checkpoint of PyTorch (DCP): convert it to one file with `python -m",
    ],
    [["model.onnx"], "an ONNX model"],
    [["model.safetensors.part"], "an incomplete download"],
    [["optimizer.safetensors"], '"optimizer.safetensors" are not weights by their names'],
  ];
  for (const [names, part, format] of cases) {
    await using folder = await folderOf(names);
    const error = await assertRejects(
      () => resolveInputs(new LocalNames(), folder.path, { size: 1 }),
      SafeTensorsError,
      part,
    );
    assertEquals([error.code, error.path, error.format], ["NoTensorFiles", folder.path, format]);
  }
  await using folder = await folderOf(["model.safetensors"]);
  const error = await assertRejects(() => openPyTorch(folder.path), SafeTensorsError, "with fastsafeOpen");
  assertEquals([error.code, error.format], ["NoTensorFiles", "safetensors"]);
});

Deno.test("resolveInputs() skips links to folders, and names a broken link", async () => {
  await using folder = await folderOf(["sub/x.txt", "model.safetensors"]);
  await Deno.symlink("sub", `${folder.path}/other.safetensors`);
  const { paths } = await resolveInputs(new LocalNames(), folder.path, { size: 1 });
  assertEquals(paths, [`${folder.path}/model.safetensors`]);
  await Deno.remove(`${folder.path}/model.safetensors`);
  await Deno.symlink("../../blobs/gone", `${folder.path}/model.safetensors`);
  await assertRejects(() => fastsafeOpen(folder.path), ReadError, 'it is a link to "../../blobs/gone"');
});
