import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { convertPyTorch, fastsafeOpen, openPyTorch, type SafeTensorsModel } from "../../mod.ts";
import { SafeTensorsError } from "../../src/errors.ts";
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
    Deno.test(`openPyTorch() gives every tensor of ${name}.pt${lazy ? " when asked for" : ""}`, async () => {
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
      assertEquals(model.metadata().get(`${folder}/out.safetensors`)!.get("format"), "pt");
    }));
}

const lpips = ["lpips_alex", "lpips_vgg"];
suite(
  "published legacy checkpoints",
  "real-data",
  exists(REAL) ? null : "../shared/data/real is not there",
  () => {
    for (const name of lpips) {
      Deno.test(`openPyTorch() gives every tensor of ${name}.pth`, async () => {
        await using model = await openPyTorch(`${REAL}${name}.pth`);
        await checkTensors(model, expectedOf(`${REAL}${name}.pth.expected.json`));
      });
    }

    Deno.test("openPyTorch() refuses a TorchScript archive and says what it is", async () => {
      const error = await assertRejects(() => openPyTorch(`${REAL}silero_vad.jit`), SafeTensorsError);
      assertEquals(error.code, "UnsupportedCheckpoint");
      assertStringIncludes(error.message, "TorchScript");
    });
  },
);

Deno.test("openPyTorch() yields every name once while iterating, aliases and assembled views too", async () => {
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

Deno.test("openPyTorch() gives names that share a tensor the same memory", async () => {
  await using model = await openPyTorch(`${DATA}tied.pt`);
  const embed = await model.getTensor("embed.weight"), head = await model.getTensor("lm_head.weight");
  assert(embed.bytes.buffer === head.bytes.buffer && embed.bytes.byteOffset === head.bytes.byteOffset);
});

Deno.test("openPyTorch() reads an alias in its own right where the kept name is not wanted", async () => {
  await using model = await openPyTorch(`${DATA}tied.pt`, { names: ["lm_head.weight"] });
  const tensor = await model.getTensor("lm_head.weight");
  assertEquals(await sha256(tensor.bytes), expectedOf(`${DATA}tied.expected.json`)["lm_head.weight"]!.sha256);
});

Deno.test("openPyTorch() slices assembled views as NumPy would", async () => {
  for (const lazy of [false, true]) {
    await using model = await openPyTorch(`${DATA}views.pt`, { lazy });
    const base = await model.getTensor("base"), column = await model.getSlice("transposed", 2);
    const expected = Array.from({ length: 10 }, (_, row) => Number(base.data[row * 6 + 2]));
    assertEquals([...column.data].map(Number), expected);
  }
});

Deno.test("openPyTorch() casts while loading, assembled views too", async () => {
  await using model = await openPyTorch(`${DATA}views.pt`, { dtype: "F64" });
  await using stored = await openPyTorch(`${DATA}views.pt`);
  for (const name of model.keys()) {
    const wide = await model.getTensor(name), narrow = await stored.getTensor(name);
    assertEquals(wide.dtype, "F64");
    assertEquals([...wide.data].map(Number), [...narrow.data].map(Number));
  }
});

Deno.test("openPyTorch() says in its notes what is left out", async () => {
  await using model = await openPyTorch(`${DATA}nested.pt`);
  const note = 'left out: 2 values that are not tensors, such as "epoch" (int 3)';
  assertStringIncludes(model.stats().notes.join("\n"), note);
});

Deno.test("fastsafeOpen() names openPyTorch when it is given a checkpoint, or a folder of one", () =>
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

Deno.test("convertPyTorch() converts a sharded folder, into shards if asked", () =>
  inFolder(async (folder) => {
    const expected = await shardedCheckpoint(folder);
    const report = await convertPyTorch(folder, undefined, { maxShardBytes: 1000, validate: true });
    assertEquals(report.paths.at(-1), `${folder}/model.safetensors.index.json`);
    assert(report.paths.length > 2);
    await using model = await fastsafeOpen(folder);
    await checkTensors(model, expected);
  }));

Deno.test("convertPyTorch() writes beside its input by default, and replaces nothing unasked", () =>
  inFolder(async (folder) => {
    await Deno.copyFile(`${DATA}state_dict.pt`, `${folder}/model.pt`);
    assertEquals((await convertPyTorch(`${folder}/model.pt`)).paths, [`${folder}/model.safetensors`]);
    const error = await assertRejects(() => convertPyTorch(`${folder}/model.pt`), SafeTensorsError);
    assertEquals(error.code, "FileExists");
    await convertPyTorch(`${folder}/model.pt`, undefined, { overwrite: true });
  }));

Deno.test("convertPyTorch() writes nothing in a dry run, and tells what it would leave out", () =>
  inFolder(async (folder) => {
    const report = await convertPyTorch(`${DATA}nested.pt`, `${folder}/out.safetensors`, { dryRun: true });
    assertEquals([...Deno.readDirSync(folder)], []);
    assertEquals(report.skipped.map(({ name }) => name), ["epoch", "optimizer"]);
    assertEquals(report.validated, false);
  }));

Deno.test("convertPyTorch() casts, and the comparison casts too", () =>
  inFolder(async (folder) => {
    await convertPyTorch(`${DATA}views.pt`, `${folder}/out.safetensors`, { dtype: "BF16", validate: true });
    await using model = await fastsafeOpen(`${folder}/out.safetensors`);
    assertEquals(new Set(model.keys().map((name) => model.info(name).dtype)), new Set(["BF16"]));
  }));

Deno.test("convertPyTorch() leaves nothing behind when it is stopped", () =>
  inFolder(async (folder) => {
    const signal = AbortSignal.abort(new Error("enough"));
    const call = () => convertPyTorch(`${DATA}views.pt`, `${folder}/out.safetensors`, { signal });
    await assertRejects(call, Error, "enough");
    assertEquals([...Deno.readDirSync(folder)], []);
  }));
