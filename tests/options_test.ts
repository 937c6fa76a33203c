/**
 * Every function with options checks them at once.
 */
import "./support/open_library.ts";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fastsafeOpen, PinnedPool, prepare, SafeTensorsError, serialize } from "../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../src/compat/mod.ts";
import { doctor } from "../src/doctor/mod.ts";
import { MpiGroup, NcclGroup } from "../src/ranks/mod.ts";
import { checkKeys, describeValue } from "../src/base/check.ts";
import { closestWord } from "../src/base/closest_word.ts";
import { dtypeMeant } from "../src/base/dtype.ts";

const path = await Deno.makeTempFile({ suffix: ".safetensors" });
const data = new Float32Array([1, 2]);
await Deno.writeFile(path, serialize({ "lm_head.weight": { dtype: "F32", shape: [2], data } }));
addEventListener("unload", () => Deno.removeSync(path));

/** Every function with the options of a load. The options are wrong on purpose. */
const LOADS: Readonly<Record<string, (options: unknown) => unknown>> = {
  "fastsafeOpen()": (options) => fastsafeOpen(path, options as never),
  ParallelLoader: (options) => new ParallelLoader(null, path, options as never),
  SafeTensorsFileLoader: (options) => new SafeTensorsFileLoader(null, options as never),
};

async function assertRefused(call: () => unknown, message: string) {
  await assertRejects(async () => await call(), TypeError, message);
}

for (const [name, load] of Object.entries(LOADS)) {
  Deno.test(`${name} rejects an unknown option and names the nearest one`, async () => {
    await assertRefused(
      () => load({ devise: "cpu" }),
      `${name} has no option "devise": did you mean device?`,
    );
    await assertRefused(
      () => load({ maxThread: 1 }),
      `${name} has no option "maxThread": did you mean maxThreads?`,
    );
    await assertRefused(() => load({ quantise: 1 }), `${name} has no option "quantise"; known are device, `);
    await assertRefused(
      () => load({ dvice: undefined }),
      `${name} has no option "dvice": did you mean device?`,
    );
  });

  Deno.test(`${name} rejects options that are not a plain object`, async () => {
    const wrong: readonly (readonly [unknown, string])[] = [
      ["pt", '"pt"'],
      [null, "null"],
      [5, "5"],
      [["cpu"], "an array"],
      [new Map([["device", "cpu"]]), "a Map"],
      [Promise.resolve({}), "a Promise"],
      [new AbortController().signal, "an AbortSignal"],
      [new PinnedPool(), "a PinnedPool"],
      [() => {}, "a function"],
    ];
    for (const [options, given] of wrong) {
      await assertRefused(() => load(options), `The options of ${name} must be a plain object, got ${given}`);
    }
  });

  Deno.test(`${name} rejects values of the wrong kind`, async () => {
    const wrong: readonly (readonly [object, string])[] = [
      [{ restoreAliases: 1 }, "restoreAliases must be true or false, got 1"],
      [{ nogds: "yes" }, 'nogds must be true or false, got "yes"'],
      [{ signal: {} }, "signal must be an AbortSignal, got an object"],
      [{ onProgress: 5 }, "onProgress must be a function, got 5"],
      [{ debugLog: "yes" }, 'debugLog must be true, false or a function, got "yes"'],
      [{ maxThreads: "4" }, 'maxThreads must be a number, got "4"'],
      [{ blockBytes: 4096n }, "blockBytes must be a number, got 4096n"],
      [{ stagingBytes: null }, "stagingBytes must be a number, got null"],
      [{ gds: 1n }, 'gds must be "auto", "require" or "off", got 1n'],
      [{ source: 1n }, 'source must be "3fs", "file" or a source of your own, got 1n'],
      [{ pool: {} }, "pool must be a PinnedPool, got an object"],
      [{ device: new Map() }, "Cannot load to device a Map"],
      [{ gpuBufferUsage: "1" }, 'gpuBufferUsage must be a number, got "1"'],
    ];
    for (const [options, message] of wrong) await assertRefused(() => load(options), message);
  });
}

Deno.test("fastsafeOpen() rejects a string as second argument", async () => {
  const open = fastsafeOpen as (...given: unknown[]) => Promise<unknown>;
  await assertRefused(
    () => open(path, "pt", "cpu"),
    'The options of fastsafeOpen() must be a plain object, got "pt"',
  );
});

Deno.test("fastsafeOpen() rejects values of the wrong kind for its own options", async () => {
  const open = (options: unknown) => () => fastsafeOpen(path, options as never);
  await assertRefused(open({ lazy: "no" }), 'lazy must be true or false, got "no"');
  await assertRefused(
    open({ group: {} }),
    "group must be a process group such as an MpiGroup, got an object",
  );
  await assertRefused(open({ group: null }), "group must be a process group such as an MpiGroup, got null");
  const names = "names must be a name, a pattern with *, a RegExp, a list of these, or a function, got";
  await assertRefused(open({ names: 5 }), `${names} 5`);
  await assertRefused(open({ names: Promise.resolve([]) }), `${names} a Promise`);
  await assertRefused(open({ names: new Map([["x", 1]]) }), `${names} a list with an array`);
  await assertRefused(open({ lazzy: true }), 'fastsafeOpen() has no option "lazzy": did you mean lazy?');
  await assertRefused(open({ dtype: "float32" }), 'Cannot cast to "float32": did you mean "F32"?');
  await assertRefused(open({ dtype: "bfloat16" }), 'Cannot cast to "bfloat16": did you mean "BF16"?');
  await assertRefused(open({ dtype: "int8" }), 'Cannot cast to "int8": dtype must be one of ');
  await assertRefused(open({ dtype: 32 }), "Cannot cast to 32: dtype must be one of ");
});

Deno.test("Loaders reject options of an opened model, and an invalid group", async () => {
  const loader = LOADS["SafeTensorsFileLoader"]!, parallel = LOADS["ParallelLoader"]!;
  for (const key of ["lazy", "names", "group", "dtype", "shardPlan"]) {
    await assertRefused(() => loader({ [key]: undefined }), `SafeTensorsFileLoader has no option "${key}"`);
  }
  for (const key of ["lazy", "group"]) {
    await assertRefused(() => parallel({ [key]: undefined }), `ParallelLoader has no option "${key}"`);
  }
  await assertRefused(() => parallel({ maxBytesInFligth: 1 }), "did you mean maxBytesInFlight?");
  await assertRefused(() => parallel({ queueSize: "1" }), 'queueSize must be a number, got "1"');
  assertThrows(
    () => new SafeTensorsFileLoader({} as never),
    TypeError,
    "group must be a process group such as an MpiGroup, got an object",
  );
  await using files = new SafeTensorsFileLoader();
  await assertRefused(
    () => files.copyFilesToDevice({ dtpye: "F16" } as never),
    'copyFilesToDevice() has no option "dtpye": did you mean dtype?',
  );
});

Deno.test("The methods of a model and of a buffer reject unknown options", async () => {
  await using model = await fastsafeOpen(path);
  const name = "lm_head.weight";
  await assertRefused(
    () => model.getTensor(name, { devcie: "cpu" } as never),
    'getTensor() has no option "devcie": did you mean device?',
  );
  await assertRefused(
    () => model.getTensor(name, "F16" as never),
    'The options of getTensor() must be a plain object, got "F16"',
  );
  await assertRefused(
    () => model.getSharded(name, 0, { form: "file" } as never),
    'getSharded() has no option "form": did you mean from?',
  );
  await assertRefused(
    () => model.getSharded(name, 0, { from: "disk" } as never),
    'from must be "group" or "file", got "disk"',
  );
  await using loader = new SafeTensorsFileLoader();
  await loader.addFilenames({ 0: path });
  await using buffer = await loader.copyFilesToDevice();
  await assertRefused(
    () => buffer.getSharded(name, 0, { form: "file" } as never),
    'getSharded() has no option "form": did you mean from?',
  );
});

Deno.test("MpiGroup.create() and NcclGroup.create() reject unknown options and words", async () => {
  const mpi = (options: unknown) => () => MpiGroup.create(options as never);
  const nccl = (options: unknown) => () => NcclGroup.create(options as never);
  await assertRefused(mpi({ timeout: 3 }), 'MpiGroup.create() has no option "timeout"');
  await assertRefused(mpi({ deviceMemory: "gpu" }), 'deviceMemory must be "auto" or "host", got "gpu"');
  await assertRefused(nccl({ ranks: 3 }), 'NcclGroup.create() has no option "ranks": did you mean rank?');
  await assertRefused(nccl(null), "The options of NcclGroup.create() must be a plain object, got null");
});

Deno.test("PinnedPool, prepare() and doctor() reject wrong arguments", async () => {
  await assertRefused(() => new PinnedPool({ maxByte: 1 } as never), 'PinnedPool has no option "maxByte"');
  await assertRefused(() => new PinnedPool({ maxBytes: "1" } as never), 'maxBytes must be a number, got "1"');
  await assertRefused(() => prepare("gpu" as never), 'Cannot load to device "gpu"');
  await assertRefused(() => prepare({ device: "cpu" } as never), "Cannot load to device an object");
  await assertRefused(() => doctor("/models" as never), 'doctor() takes a list of paths, got "/models"');
});

Deno.test("An error about a tensor's name suggests the nearest one, or explains that names are not patterns", async () => {
  await using model = await fastsafeOpen(path);
  await assertRejects(
    () => model.getTensor("lm_head.wieght"),
    SafeTensorsError,
    'Cannot find tensor "lm_head.wieght": none of the 1 has this name: did you mean "lm_head.weight"?',
  );
  await assertRefused(
    () => model.getTensor(5 as never),
    "The name of a tensor must be a string, got 5",
  );
  await assertRejects(
    () => fastsafeOpen(path, { names: ["lm_haed.weight"] }),
    SafeTensorsError,
    'no file has it: did you mean "lm_head.weight"?',
  );
  await assertRejects(
    () => fastsafeOpen(path, { names: ["*.wieght"] }),
    SafeTensorsError,
    'Cannot find tensor "*.wieght": it is a pattern of the option names that no name matches',
  );
});

Deno.test("checkKeys() accepts objects without a prototype and of another realm", () => {
  checkKeys("f()", Object.assign(Object.create(null), { a: 1 }), ["a"]);
  checkKeys("f()", {}, []);
  assertThrows(() => checkKeys("f()", Object.create({ a: 1 }), ["a"]), TypeError, "must be a plain object");
});

Deno.test("describeValue() is short for every value", () => {
  const values: readonly (readonly [unknown, string])[] = [
    [undefined, "undefined"],
    [1.5, "1.5"],
    [10n, "10n"],
    [Symbol("x"), "a symbol"],
    ["a\u001b[31m", '"a\\u001b[31m"'],
    [new Uint8Array(2), "a Uint8Array"],
    [Object.create(null), "an object"],
    [{ constructor: 5 }, "an object"],
  ];
  for (const [value, words] of values) assertEquals(describeValue(value), words);
  assertEquals(describeValue("x".repeat(1e8)).length, 163);
});

Deno.test("closestWord() compares the first 20,000 words, and skips very long ones", () => {
  const names = Array.from({ length: 20_001 }, (_, index) => `model.layers.${index}.weight`);
  assertEquals(closestWord("model.layers.19999.wieght", names), names[19_999]);
  assertEquals(closestWord("lm_haed", [...names, "lm_head"]), undefined);
  assertEquals(closestWord("x".repeat(1e7), ["y".repeat(1e7)]), undefined);
});

Deno.test("dtypeMeant() recognises the names of PyTorch and NumPy", () => {
  const names = [
    "float32",
    "torch.bfloat16",
    "np.int8",
    "half",
    "uint16",
    "float8_e4m3fn",
    "fp16",
    "f32",
    "long",
    "x",
  ];
  const meant = ["F32", "BF16", "I8", "F16", "U16", "F8_E4M3", "F16", "F32", undefined, undefined];
  assertEquals(names.map(dtypeMeant), meant);
});
