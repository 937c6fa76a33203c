import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { fastsafeOpen, type SafeTensorsModel } from "../../mod.ts";
import { convertPyTorch, openPyTorch } from "../../src/pytorch/mod.ts";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { openLibrary } from "../../ffi/library.ts";
import { exists, suite } from "../support/skip.ts";

await openLibrary(); // before the tests: the library stays open

const DATA = new URL("../data/pytorch/", import.meta.url).pathname;
const REAL = new URL("../../../shared/data/real/", import.meta.url).pathname;

type Expected = Record<string, { dtype: string; shape: number[]; sha256: string }>;

function expectedOf(path: string): Expected {
  const json = JSON.parse(Deno.readTextFileSync(path));
  return json.tensors ?? json;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

async function checkTensors(model: SafeTensorsModel, expected: Expected): Promise<void> {
  assertEquals(model.keys().toSorted(), Object.keys(expected).toSorted());
  for (const [name, { dtype, shape, sha256: sum }] of Object.entries(expected)) {
    const tensor = await model.getTensor(name);
    assertEquals([tensor.name, tensor.dtype, [...tensor.shape]], [name, dtype, shape]);
    assertEquals(await sha256(tensor.bytes), sum, name);
  }
}

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

for (const name of ["dtypes", "legacy", "nested", "parameters", "state_dict", "tied", "views"]) {
  for (const lazy of [false, true]) {
    Deno.test(`openPyTorch() loads every tensor of ${name}.pt${lazy ? " lazily" : ""}`, async () => {
      await using model = await openPyTorch(`${DATA}${name}.pt`, { lazy });
      await checkTensors(model, expectedOf(`${DATA}${name}.expected.json`));
    });
  }

  Deno.test(`convertPyTorch() writes and validates every tensor of ${name}.pt`, () =>
    inFolder(async (folder) => {
      const report = await convertPyTorch(`${DATA}${name}.pt`, `${folder}/out.safetensors`, {
        validate: true,
      });
      assertEquals(report.validated, true);
      await using model = await fastsafeOpen(`${folder}/out.safetensors`, { restoreAliases: true });
      await checkTensors(model, expectedOf(`${DATA}${name}.expected.json`));
      assertEquals(model.metadata(`${folder}/out.safetensors`)["format"], "pt");
    }));
}

const lpips = ["lpips_alex", "lpips_vgg"];
suite(
  "published legacy checkpoints",
  "real-data",
  exists(REAL) ? null : "../shared/data/real is not there",
  () => {
    for (const name of lpips) {
      Deno.test(`openPyTorch() loads every tensor of ${name}.pth`, async () => {
        await using model = await openPyTorch(`${REAL}${name}.pth`);
        await checkTensors(model, expectedOf(`${REAL}${name}.pth.expected.json`));
      });
    }

    Deno.test("openPyTorch() rejects a TorchScript archive and names it", async () => {
      const error = await assertRejects(() => openPyTorch(`${REAL}silero_vad.jit`), SafeTensorsError);
      assertEquals(error.code, "UnsupportedCheckpoint");
      assertStringIncludes(error.message, "TorchScript");
    });
  },
);

Deno.test("openPyTorch() yields every name once in iteration, also aliases and assembled views", async () => {
  for (const lazy of [false, true]) {
    for (const name of ["tied", "views"]) {
      await using model = await openPyTorch(`${DATA}${name}.pt`, { lazy });
      const seen: string[] = [];
      for await (const [key, tensor] of model) {
        assertEquals(tensor.name, key);
        seen.push(key);
      }
      assertEquals(seen.toSorted(), model.keys().toSorted());
    }
  }
});

Deno.test("openPyTorch() returns the same memory for names that share a tensor", async () => {
  await using model = await openPyTorch(`${DATA}tied.pt`);
  const embed = await model.getTensor("embed.weight"), head = await model.getTensor("lm_head.weight");
  assert(embed.bytes.buffer === head.bytes.buffer && embed.bytes.byteOffset === head.bytes.byteOffset);
});

Deno.test("openPyTorch() reads an alias by itself if names leaves out its target", async () => {
  await using model = await openPyTorch(`${DATA}tied.pt`, { names: ["lm_head.weight"] });
  const tensor = await model.getTensor("lm_head.weight");
  assertEquals(await sha256(tensor.bytes), expectedOf(`${DATA}tied.expected.json`)["lm_head.weight"]!.sha256);
});

Deno.test("openPyTorch() slices assembled views like NumPy", async () => {
  for (const lazy of [false, true]) {
    await using model = await openPyTorch(`${DATA}views.pt`, { lazy });
    const base = await model.getTensor("base"), column = await model.getSlice("transposed", 2);
    const expected = Array.from({ length: 10 }, (_, row) => Number(base.data[row * 6 + 2]));
    assertEquals([...column.data].map(Number), expected);
  }
});

Deno.test("openPyTorch() casts tensors and assembled views", async () => {
  await using model = await openPyTorch(`${DATA}views.pt`, { dtype: "F64" });
  await using stored = await openPyTorch(`${DATA}views.pt`);
  for (const name of model.keys()) {
    const wide = await model.getTensor(name), narrow = await stored.getTensor(name);
    assertEquals(wide.dtype, "F64");
    assertEquals([...wide.data].map(Number), [...narrow.data].map(Number));
  }
});

Deno.test("openPyTorch() lists values that it leaves out in its notes", async () => {
  await using model = await openPyTorch(`${DATA}nested.pt`);
  const note = 'left out: 2 values that are not tensors, such as "epoch" (int 3)';
  assertStringIncludes(model.stats().notes.join("\n"), note);
});

Deno.test("fastsafeOpen() names openPyTorch for a checkpoint or its folder", () =>
  inFolder(async (folder) => {
    for (const name of ["state_dict.pt", "legacy.pt"]) {
      const error = await assertRejects(() => fastsafeOpen(`${DATA}${name}`), SafeTensorsError);
      assertStringIncludes(error.message, "openPyTorch");
    }
    await Deno.copyFile(`${DATA}state_dict.pt`, `${folder}/pytorch_model.bin`);
    const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError);
    assertEquals(error.code, "NoTensorFiles");
    assertStringIncludes(error.message, "openPyTorch");
  }));

/** A sharded checkpoint in the conventions of the Hub. */
async function shardedCheckpoint(folder: string): Promise<Expected> {
  const expected = {
    ...expectedOf(`${DATA}state_dict.expected.json`),
    ...expectedOf(`${DATA}views.expected.json`),
  };
  const weightMap: Record<string, string> = {};
  const files = {
    "pytorch_model-00001-of-00002.bin": "state_dict",
    "pytorch_model-00002-of-00002.bin": "views",
  };
  for (const [file, name] of Object.entries(files)) {
    await Deno.copyFile(`${DATA}${name}.pt`, `${folder}/${file}`);
    for (const tensor of Object.keys(expectedOf(`${DATA}${name}.expected.json`))) weightMap[tensor] = file;
  }
  const index = { metadata: { total_size: 0 }, weight_map: weightMap };
  await Deno.writeTextFile(`${folder}/pytorch_model.bin.index.json`, JSON.stringify(index));
  return expected;
}

Deno.test("openPyTorch() opens sharded checkpoints by folder and by index", () =>
  inFolder(async (folder) => {
    const expected = await shardedCheckpoint(folder);
    for (const path of [folder, `${folder}/pytorch_model.bin.index.json`]) {
      await using model = await openPyTorch(path);
      await checkTensors(model, expected);
    }
    await Deno.remove(`${folder}/pytorch_model-00002-of-00002.bin`);
    const error = await assertRejects(() => openPyTorch(folder), SafeTensorsError);
    assertEquals(error.code, "MissingShard");
  }));

Deno.test("convertPyTorch() converts a sharded folder into one file or into shards", () =>
  inFolder(async (folder) => {
    const expected = await shardedCheckpoint(folder);
    const report = await convertPyTorch(folder, undefined, { maxShardBytes: 1000, validate: true });
    assertEquals(report.paths.at(-1), `${folder}/model.safetensors.index.json`);
    assert(report.paths.length > 2);
    await using model = await fastsafeOpen(folder);
    await checkTensors(model, expected);
  }));

Deno.test("convertPyTorch() writes beside its input by default, and replaces files only with overwrite", () =>
  inFolder(async (folder) => {
    await Deno.copyFile(`${DATA}state_dict.pt`, `${folder}/model.pt`);
    assertEquals((await convertPyTorch(`${folder}/model.pt`)).paths, [`${folder}/model.safetensors`]);
    const error = await assertRejects(() => convertPyTorch(`${folder}/model.pt`), SafeTensorsError);
    assertEquals(error.code, "FileExists");
    await convertPyTorch(`${folder}/model.pt`, undefined, { overwrite: true });
  }));

Deno.test("convertPyTorch() writes nothing in a dry run, and reports values that it would leave out", () =>
  inFolder(async (folder) => {
    const report = await convertPyTorch(`${DATA}nested.pt`, `${folder}/out.safetensors`, { dryRun: true });
    assertEquals([...Deno.readDirSync(folder)], []);
    assertEquals(report.skipped.map(({ name }) => name), ["epoch", "optimizer"]);
    assertEquals(report.validated, false);
  }));

Deno.test("convertPyTorch() casts, and validates with casts", () =>
  inFolder(async (folder) => {
    await convertPyTorch(`${DATA}views.pt`, `${folder}/out.safetensors`, { dtype: "BF16", validate: true });
    await using model = await fastsafeOpen(`${folder}/out.safetensors`);
    assertEquals(new Set(model.keys().map((name) => model.info(name).dtype)), new Set(["BF16"]));
  }));

Deno.test("convertPyTorch() leaves no files after an abort", () =>
  inFolder(async (folder) => {
    const signal = AbortSignal.abort(new Error("enough"));
    const call = () => convertPyTorch(`${DATA}views.pt`, `${folder}/out.safetensors`, { signal });
    await assertRejects(call, Error, "enough");
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

const OWN = new URL("../data/checkpoints/", import.meta.url).pathname;

for (const name of ["inert", "two_dtypes", "bare", "module", "deflated", "roots", "refused"]) {
  Deno.test(`openPyTorch() and convertPyTorch() return every tensor of ${name}.pt`, () =>
    inFolder(async (folder) => {
      const expected = expectedOf(`${OWN}${name}.expected.json`);
      for (const lazy of [false, true]) {
        await using model = await openPyTorch(`${OWN}${name}.pt`, { lazy });
        await checkTensors(model, expected);
      }
      await convertPyTorch(`${OWN}${name}.pt`, `${folder}/out.safetensors`, { validate: true });
      await using model = await fastsafeOpen(folder, { restoreAliases: true });
      await checkTensors(model, expected);
    }));
}

Deno.test("openPyTorch() rejects a request for a tensor that safetensors cannot represent", async () => {
  const path = `${OWN}refused.pt`;
  for (const lazy of [false, true]) {
    await using model = await openPyTorch(path, { lazy });
    assertEquals(model.keys(), ["w"]);
    const error = await assertRejects(() => model.getTensor("complex128"), SafeTensorsError);
    assertEquals([error.code, error.tensor], ["UnsupportedCheckpoint", "complex128"]);
    assertEquals((await model.getTensor("w")).shape, [4]);
  }
  const error = await assertRejects(() => openPyTorch(path, { names: ["w", "sparse"] }), SafeTensorsError);
  assertStringIncludes(error.message, "sparse tensor");
  await using model = await openPyTorch(path, { names: ["w"] });
  assertEquals(model.keys(), ["w"]);
});

Deno.test("openPyTorch() and convertPyTorch() read the part that the option root names", () =>
  inFolder(async (folder) => {
    const expected = expectedOf(`${OWN}roots_ema.expected.json`);
    await using model = await openPyTorch(`${OWN}roots.pt`, { root: "state_dict_ema" });
    await checkTensors(model, expected);
    assertStringIncludes(
      model.stats().notes.join(),
      'left out: 7 tensors in "state_dict", 12 tensors in "optimizer"',
    );
    const report = await convertPyTorch(`${OWN}roots.pt`, `${folder}/x.safetensors`, {
      root: "state_dict_ema",
    });
    assertEquals(report.skipped.map(({ name, tensors }) => [name, tensors]), [
      ["state_dict", 7],
      ["optimizer", 12],
      ["epoch", undefined],
    ]);
    await using saved = await fastsafeOpen(folder);
    await checkTensors(saved, expected);
  }));

Deno.test("openPyTorch() and convertPyTorch() accept the limits that an error names", async () => {
  const path = `${DATA}state_dict.pt`;
  const limits = { maxOpcodes: 10 };
  const convert = () => convertPyTorch(path, undefined, { limits, dryRun: true });
  for (const call of [() => openPyTorch(path, { limits }), convert]) {
    const error = await assertRejects(call, SafeTensorsError);
    assertEquals(error.code, "LimitExceeded");
    assertStringIncludes(error.message, "10 are allowed (limit maxOpcodes)");
  }
  await using model = await openPyTorch(path, { limits: { maxOpcodes: 10_000 } });
  assert(model.keys().length > 0);
});

Deno.test("openPyTorch() and convertPyTorch() reject unknown options", async () => {
  const path = `${DATA}state_dict.pt`;
  const open = (options: unknown) => () => openPyTorch(path, options as never);
  const convert = (options: unknown) => () => convertPyTorch(path, undefined, options as never);
  await assertRejects(open({ rooot: "x" }), TypeError, "root");
  await assertRejects(open({ root: 5 }), TypeError, "root must be the name");
  await assertRejects(open({ limits: { maxTensors: 5 } }), TypeError, 'limits has no option "maxTensors"');
  await assertRejects(convert({ dryrun: true }), TypeError, "dryRun");
  await assertRejects(convert({ dryRun: "yes" }), TypeError, "dryRun must be true or false");
});

Deno.test("convertPyTorch() writes beside an input of any name, and into a folder", () =>
  inFolder(async (folder) => {
    const names = {
      "model.ckpt": "model.safetensors",
      "best.pth.tar": "best.safetensors",
      "net.PT": "net.safetensors",
      "weights-1.5": "weights-1.5.safetensors",
      "plain": "plain.safetensors",
      "a.b.t7": "a.b.safetensors",
    };
    for (const [name, output] of Object.entries(names)) {
      await Deno.copyFile(`${DATA}state_dict.pt`, `${folder}/${name}`);
      const { paths } = await convertPyTorch(`${folder}/${name}`, undefined, { dryRun: true });
      assertEquals(paths, [`${folder}/${output}`]);
    }
    await Deno.mkdir(`${folder}/epoch.5`);
    await Deno.copyFile(`${DATA}state_dict.pt`, `${folder}/epoch.5/pytorch_model.bin`);
    const { paths } = await convertPyTorch(`${folder}/epoch.5/`, undefined, { dryRun: true });
    assertEquals(paths, [`${folder}/epoch.5/model.safetensors`]);
  }));

Deno.test("convertPyTorch() reports the bytes before and after a cast", () =>
  inFolder(async (folder) => {
    const options = { dtype: "BF16", dryRun: true } as const;
    const report = await convertPyTorch(`${OWN}bare.pt`, `${folder}/x.safetensors`, options);
    assertEquals([report.bytes, report.writtenBytes], [24, 12]);
  }));

Deno.test("convertPyTorch() names the first file of an alias if another file also has the name", () =>
  inFolder(async (folder) => {
    for (const name of ["a.pt", "b.pt"]) await Deno.copyFile(`${DATA}tied.pt`, `${folder}/${name}`);
    const map = { "lm_head.weight": "a.pt", x: "b.pt" };
    await Deno.writeTextFile(`${folder}/model.bin.index.json`, JSON.stringify({ weight_map: map }));
    const call = () => convertPyTorch(`${folder}/model.bin.index.json`, undefined, { dryRun: true });
    const error = await assertRejects(call, SafeTensorsError);
    assertEquals(error.code, "DuplicateName");
    assertStringIncludes(error.message, `/b.pt": tensor`);
    assertStringIncludes(error.message, `/a.pt"`);
  }));

Deno.test("openPyTorch() recognises a safetensors file, and fastsafeOpen() a checkpoint", () =>
  inFolder(async (folder) => {
    await convertPyTorch(`${DATA}state_dict.pt`, `${folder}/x.safetensors`);
    await Deno.rename(`${folder}/x.safetensors`, `${folder}/x.ckpt`);
    const error = await assertRejects(() => openPyTorch(`${folder}/x.ckpt`), SafeTensorsError);
    assertEquals([error.code, error.format], ["WrongFormat", "safetensors"]);
    assertStringIncludes(error.message, "open it with fastsafeOpen");
    await Deno.copyFile(`${DATA}state_dict.pt`, `${folder}/y.safetensors`);
    const other = await assertRejects(() => fastsafeOpen(`${folder}/y.safetensors`), SafeTensorsError);
    assertEquals(other.format, "pytorch");
  }));
