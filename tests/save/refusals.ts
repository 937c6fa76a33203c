/**
 * Saves that are rejected or fail leave no files.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  fastsafeOpen,
  SafeTensorsError,
  type SafeTensorsErrorCode,
  type SavableTensor,
  saveFile,
  type SaveInput,
  serialize,
  type TensorShape,
  UseAfterCloseError,
  WriteError,
} from "../../mod.ts";
import type { DefineTest } from "../load/context.ts";
import { writeFile } from "../support/models.ts";
import { assertFile, assertFiles, namesIn, pairs, referenceFile, written } from "./support.ts";

const tensor = { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } as const;

type SerializeInput = Parameters<typeof serialize>[0];

/** Runs a program and ignores its status: the caller checks the result. */
async function run(command: string, ...args: string[]): Promise<void> {
  await new Deno.Command(command, { args, stderr: "null" }).output();
}

/** Inputs that the format or the types forbid. */
const BAD: readonly [
  what: string,
  input: unknown,
  code: SafeTensorsErrorCode | "TypeError" | "RangeError",
  text: string,
][] = [
  ["a name with a lone surrogate", { "a\ud800": tensor }, "InvalidTensorView", "lone surrogate"],
  ["__metadata__ as a name", { __metadata__: tensor }, "InvalidTensorView", "reserved"],
  [
    "too few bytes",
    { x: { ...tensor, shape: [3] } },
    "InvalidTensorView",
    "U8 of shape [3] is 3 bytes, its data has 2",
  ],
  ["too many bytes", { x: { ...tensor, dtype: "F4" } }, "InvalidTensorView", "is 1 bytes, its data has 2"],
  [
    "bytes for no elements",
    { x: { ...tensor, shape: [0] } },
    "InvalidTensorView",
    "is 0 bytes, its data has 2",
  ],
  [
    "two tensors of one name",
    [["x", tensor], ["y", tensor], ["x", tensor]],
    "DuplicateName",
    '"x" is given twice',
  ],
  ["part of a byte", { x: { ...tensor, dtype: "F4", shape: [3] } }, "MisalignedSlice", "whole byte"],
  [
    "an unknown dtype",
    { x: { ...tensor, dtype: "C128" } },
    "TypeError",
    '"C128" is not a dtype of the format: dtype must be one of BOOL',
  ],
  ["a negative dimension", { x: { ...tensor, shape: [-2] } }, "RangeError", "-2 is not a dimension"],
  [
    "a dimension that is no integer",
    { x: { ...tensor, shape: [0.5, 4] } },
    "RangeError",
    "0.5 is not a dimension",
  ],
  [
    "more elements than there can be",
    { x: { ...tensor, shape: [2 ** 53 - 1, 2 ** 53 - 1] } },
    "ValidationOverflow",
    "u64",
  ],
  ["a dtype by another name", { x: { ...tensor, dtype: "uint8" } }, "TypeError", 'did you mean "U8"?'],
  ["data that is an array", { x: { ...tensor, data: [1, 2] } }, "TypeError", "DataView, got an array"],
  [
    "data that is a buffer",
    { x: { ...tensor, data: new ArrayBuffer(2) } },
    "TypeError",
    'tensor "x": data must be a typed array or a DataView, got an ArrayBuffer',
  ],
  [
    "no data",
    { x: { dtype: "U8", shape: [2] } },
    "TypeError",
    'tensor "x": it has no data, copyToHost, parts',
  ],
  [
    "no shape",
    { x: { dtype: "U8", data: tensor.data } },
    "TypeError",
    "shape must be an array of dimensions",
  ],
  ["a shape that is a number", { x: { ...tensor, shape: 2 } }, "TypeError", "dimensions, got 2"],
  ["null for a tensor", { x: null }, "TypeError", "{ dtype, shape, data }, got null"],
  ["a number for a tensor", { x: 3 }, "TypeError", "{ dtype, shape, data }, got 3"],
  [
    "a typed array for a tensor",
    { w: new Float32Array(4) },
    "TypeError",
    'tensor "w": a tensor is { dtype, shape, data }, got a Float32Array',
  ],
  ["a list of tensors", [tensor], "TypeError", "pairs of name and tensor expected, got an object"],
  ["a typed array", new Float32Array(4), "TypeError", "pairs of name and tensor expected, got 0"],
  ["a stream without shapes", (async function* () {})(), "TypeError", "pass the option shapes"],
  ["a string", "x", "TypeError", 'expected, got "x"'],
  ["nothing", null, "TypeError", "expected, got null"],
];

export function refusalTests(test: DefineTest): void {
  for (const [what, input, code, text] of BAD) {
    test(`saveFile() rejects ${what}`, async (folder) => {
      const error = await assertRejects(() => saveFile(input as SaveInput, `${folder}/x`), Error, text);
      assertEquals(error instanceof SafeTensorsError ? error.code : error.name, code);
      assertEquals(namesIn(folder), []);
    });
  }

  test("saveFile() and serialize() reject metadata that the format does not have", async (folder) => {
    const wrong: [unknown, string][] = [
      [{ a: 1 }, 'Cannot write metadata "a": its value must be a string, got 1'],
      [
        { metadata: { a: "b" } },
        'Cannot write metadata "metadata": its value must be a string, got an object',
      ],
      [new Map([[1, "x"]]), "Cannot write metadata: its keys must be strings, got 1"],
      [[["a", "b"]], "Cannot write metadata: a record or a map of strings expected, got an array"],
      ["pt", 'Cannot write metadata: a record or a map of strings expected, got "pt"'],
      [{ "\ud800": "" }, "lone surrogate"],
    ];
    for (const [metadata, text] of wrong) {
      const options = { metadata: metadata as Record<string, string> };
      const { name } = await assertRejects(() => saveFile({}, `${folder}/x`, options), Error, text);
      assertEquals(name, text === "lone surrogate" ? "SafeTensorsError" : "TypeError");
      await assertRejects(() => Promise.try(() => serialize({}, options.metadata)), Error, text);
    }
    assertEquals(namesIn(folder), []);
  });

  for (const [what, input, code, text] of BAD) {
    if (what.includes("stream") || what === "no data" || code === "DuplicateName") continue;
    test(`serialize() rejects ${what}`, async () => {
      const error = await assertRejects(
        () => Promise.try(() => serialize(input as SerializeInput)),
        Error,
        text,
      );
      assertEquals(error instanceof SafeTensorsError ? error.code : error.name, code);
    });
  }

  test("serialize() rejects two tensors of one name", () => {
    const error = assertRejects(
      () => Promise.try(() => serialize([["x", tensor], ["x", tensor]])),
      SafeTensorsError,
    );
    return error.then(({ code, tensor }) => assertEquals([code, tensor], ["DuplicateName", "x"]));
  });

  pathTests(test);
  streamTests(test);

  test("saveFile() rejects a tensor whose buffer has been transferred", async (folder) => {
    const data = new Uint8Array(2);
    data.buffer.transfer();
    const error = await assertRejects(
      () => saveFile({ x: { ...tensor, data } }, `${folder}/x`),
      SafeTensorsError,
    );
    assertEquals(
      error.message,
      'Cannot save tensor "x": U8 of shape [2] is 2 bytes, its buffer was transferred',
    );
    assertEquals(namesIn(folder), []);
  });

  test("a buffer that is transferred during its write fails the save, unless all of it was submitted", async (folder) => {
    const size = 64 * 2 ** 20;
    for (let turn = 0; turn < 6; turn++) {
      const data = new Uint8Array(size).fill(7);
      const save = saveFile({ x: { dtype: "U8", shape: [size], data } }, `${folder}/x`, {
        overwrite: true,
        sync: false,
      });
      const timer = setTimeout(() => data.buffer.transfer(), turn * 3);
      try {
        await save;
        await assertFile(
          `${folder}/x`,
          referenceFile([{ name: "x", dtype: "U8", shape: [size], bytes: new Uint8Array(size).fill(7) }]),
        );
        await Deno.remove(`${folder}/x`);
      } catch (error) {
        assert(error instanceof SafeTensorsError, String(error));
        assert(error.message.includes("its buffer was transferred"), error.message);
      }
      clearTimeout(timer);
      assertEquals(namesIn(folder), []);
    }
  });

  test("a tensor whose copy from the device fails fails the save with the device's error", async (folder) => {
    const disposed = new UseAfterCloseError('Cannot copy tensor "x": it was disposed');
    const x = { dtype: "U8", shape: [2], copyToHost: () => Promise.reject(disposed) } as const;
    assertEquals(await assertRejects(() => saveFile({ x }, `${folder}/x`)), disposed);
    assertEquals(namesIn(folder), []);
  });

  test("a model whose file is truncated during the save fails the save", async (folder) => {
    await writeFile(`${folder}/source`, [{ name: "x", dtype: "F32", shape: [2 ** 20] }]);
    await using model = await fastsafeOpen(`${folder}/source`, { lazy: true });
    await Deno.truncate(`${folder}/source`, 100_000);
    await assertRejects(() => saveFile(model, `${folder}/x`), Error, `Cannot read "${folder}/source"`);
    assertEquals(namesIn(folder), ["source"]);
  });
}

function pathTests(test: DefineTest): void {
  const data = written([{ name: "a", dtype: "U8", shape: [3] }, { name: "b", dtype: "U8", shape: [3] }]);

  test("saveFile() rejects a path that is a folder, also with overwrite", async (folder) => {
    await Deno.mkdir(`${folder}/x.safetensors`);
    await Deno.mkdir(`${folder}/y.safetensors.index.json`);
    await Deno.mkdir(`${folder}/z-00002-of-00002.safetensors`);
    for (const overwrite of [false, true]) {
      for (
        const [name, taken] of [["x", "x.safetensors"], ["y", "y.safetensors.index.json"], [
          "z",
          "z-00002-of-00002.safetensors",
        ]]
      ) {
        const error = await assertRejects(
          () => saveFile(pairs(data), `${folder}/${name}.safetensors`, { maxShardBytes: 3, overwrite }),
          WriteError,
          `Cannot save "${folder}/${taken}": it is a folder`,
        );
        assertEquals([error.path, error.errno], [`${folder}/${taken}`, 21]);
      }
    }
    assertEquals(namesIn(folder).length, 3);
  });

  test("saveFile() creates missing folders, and removes them after a failure", async (folder) => {
    for (const maxShardBytes of [3, 100]) {
      const path = `${folder}/a/b/${maxShardBytes}/x.safetensors`;
      const stop = new Error("enough");
      const stream = async function* (): AsyncGenerator<[string, SavableTensor]> {
        yield pairs(data)[0]!;
        assertEquals(namesIn(`${folder}/a/b/${maxShardBytes}`).length > 0, true);
        await Promise.reject(stop);
      };
      const before = namesIn(folder);
      assertEquals(
        await assertRejects(() => saveFile(stream(), path, { shapes: data, maxShardBytes })),
        stop,
      );
      assertEquals(namesIn(folder), before);
      const { paths } = await saveFile(pairs(data), path, { maxShardBytes });
      await assertFiles(paths.filter((path) => !path.endsWith(".json")), data);
    }
    assertEquals(namesIn(`${folder}/a/b`), ["100", "3"]);
  });

  test("saveFile() rejects a folder that is a file", async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    for (const parent of ["file", "file/sub"]) {
      const path = `${folder}/${parent}/x.safetensors`;
      const error = await assertRejects(() => saveFile(pairs(data), path), WriteError);
      assertEquals(error.message, `Cannot save "${path}": not a directory (ENOTDIR)`);
      assertEquals([error.path, error.errno, namesIn(folder)], [path, 20, ["file"]]);
    }
  });

  test("saveFile() rejects a target that is not a regular file, also through a link, before any write", async (folder) => {
    const kinds: [name: string, kind: string, make: (path: string) => Promise<unknown>][] = [
      ["char", "a character device", (path) => run("mknod", path, "c", "1", "3")],
      ["block", "a block device", (path) => run("mknod", path, "b", "7", "77")],
      ["fifo", "a FIFO", (path) => run("mkfifo", path)],
      ["folder", "a folder", (path) => Deno.mkdir(path)],
    ];
    await Deno.mkdir(`${folder}/links`);
    for (const [name, kind, make] of kinds) {
      await make(`${folder}/${name}.safetensors`);
      if (!namesIn(folder).includes(`${name}.safetensors`)) continue; // only root can create devices
      await Deno.symlink(`../${name}.safetensors`, `${folder}/links/${name}.safetensors`);
      const shard = `${folder}/links/set${name}-00002-of-00002.safetensors`;
      await Deno.symlink(`../${name}.safetensors`, shard);
      const before = [namesIn(folder), namesIn(`${folder}/links`)];
      for (const overwrite of [false, true]) {
        for (
          const [path, refused, maxShardBytes] of [
            [`${folder}/${name}.safetensors`, `${folder}/${name}.safetensors`, 100],
            [`${folder}/links/${name}.safetensors`, `${folder}/links/${name}.safetensors`, 100],
            [`${folder}/links/set${name}.safetensors`, shard, 3],
          ] as const
        ) {
          let asked = 0;
          const stream = async function* () {
            asked++;
            yield* pairs(data);
          };
          const error = await assertRejects(
            () => saveFile(stream(), path, { shapes: data, overwrite, maxShardBytes }),
            WriteError,
            `Cannot save "${refused}": it is ${kind}`,
          );
          assertEquals([error.path, asked], [refused, 0]);
          const target = await Deno.lstat(`${folder}/${name}.safetensors`);
          assertEquals(target.isFile, false);
          assertEquals([namesIn(folder), namesIn(`${folder}/links`)], before);
        }
      }
    }
  });

  test("saveFile() rejects a path in /proc to a stream of the process", async (folder) => {
    const file = await Deno.open(`${folder}/out`, { create: true, write: true });
    const { ino } = await file.stat();
    for (const entry of Deno.readDirSync("/proc/self/fd")) {
      const info = await Deno.stat(`/proc/self/fd/${entry.name}`).catch(() => null);
      if (info?.ino !== ino) continue;
      await Deno.symlink(`/proc/self/fd/${entry.name}`, `${folder}/link`);
      for (const path of [`/proc/self/fd/${entry.name}`, `/dev/fd/${entry.name}`, `${folder}/link`]) {
        await assertRejects(
          () => saveFile({}, path, { overwrite: true }),
          WriteError,
          "an open stream of a process",
        );
      }
    }
    file.close();
    assertEquals([namesIn(folder), await Deno.readTextFile(`${folder}/out`)], [["link", "out"], ""]);
  });

  test("saveFile() rejects a path that ends with a slash", async (folder) => {
    for (const path of [`${folder}/`, `${folder}/new/`, `${folder}/x.safetensors//`]) {
      const error = await assertRejects(
        () => saveFile(pairs(data), path),
        WriteError,
        `"${path}": it is a folder`,
      );
      assertEquals([error.errno, namesIn(folder)], [21, []]);
    }
  });

  test("saveFile() rejects values that are not paths", async () => {
    for (const path of ["", "a\0b", 7, new URL("https://example.org/x")]) {
      await assertRejects(() => saveFile(pairs(data), path as string), TypeError);
    }
  });

  test("saveFile() rejects an existing file, index, shard or link without overwrite", async (folder) => {
    const cases = [
      ["file", "file.safetensors", 100],
      ["index", "index.safetensors.index.json", 100],
      ["shard", "shard-00001-of-00002.safetensors", 3],
      ["single", "single.safetensors", 3],
      ["link", "link.safetensors", 100],
    ] as const;
    await Deno.writeTextFile(`${folder}/real`, "old");
    for (const [name, taken, maxShardBytes] of cases) {
      const path = `${folder}/${name}.safetensors`;
      if (name === "link") await Deno.symlink(`${folder}/real`, `${folder}/${taken}`);
      else await Deno.writeTextFile(`${folder}/${taken}`, "old");
      const before = namesIn(folder);
      const error = await assertRejects(
        () => saveFile(pairs(data), path, { maxShardBytes }),
        SafeTensorsError,
      );
      assertEquals([error.code, error.path], ["FileExists", `${folder}/${taken}`]);
      assertEquals(
        error.message,
        `Cannot save "${folder}/${taken}": it exists: pass overwrite: true to replace it`,
      );
      assertEquals(namesIn(folder), before);
      const { paths } = await saveFile(pairs(data), path, { maxShardBytes, overwrite: true });
      await assertFiles(paths.filter((path) => !path.endsWith(".json")), data);
    }
  });

  test("a file that is created during a save is not replaced without overwrite", async (folder) => {
    for (const maxShardBytes of [3, 100]) {
      for (const taken of ["x.safetensors", "x.safetensors.index.json", "x-00002-of-00002.safetensors"]) {
        if (maxShardBytes === 100 && taken.includes("-of-")) continue;
        const stream = async function* () {
          await Deno.writeTextFile(`${folder}/${taken}`, "theirs");
          yield* pairs(data);
        };
        const save = () => saveFile(stream(), `${folder}/x.safetensors`, { shapes: data, maxShardBytes });
        const error = await assertRejects(save, SafeTensorsError);
        assertEquals([error.code, error.path], ["FileExists", `${folder}/${taken}`]);
        assertEquals(namesIn(folder), [taken]);
        assertEquals(await Deno.readTextFile(`${folder}/${taken}`), "theirs");
        await Deno.remove(`${folder}/${taken}`);
      }
    }
  });

  test("names can have the file system's maximum length", async (folder) => {
    for (const maxShardBytes of [100, 3]) {
      const name = "x".repeat(maxShardBytes === 3 ? 200 : 243) + ".safetensors";
      const { paths } = await saveFile(pairs(data), `${folder}/${name}`, { maxShardBytes });
      await assertFiles(paths.filter((path) => !path.endsWith(".json")), data);
    }
    const error = await assertRejects(
      () => saveFile(pairs(data), `${folder}/${"x".repeat(256)}`),
      WriteError,
    );
    assertEquals(error.errno, 36);
  });

  test("parallel saves to one path: one succeeds, or the last one with overwrite, and files are not mixed", async (folder) => {
    const size = 2 ** 20;
    const sets = [1, 2, 3, 4].map((fill) =>
      ["a", "b", "c"].map((
        name,
      ) => ({ name, dtype: "U8", shape: [size], data: new Uint8Array(size).fill(fill) } as const))
    );
    for (const maxShardBytes of [size, 10 * size]) {
      for (const overwrite of [false, true]) {
        const path = `${folder}/${maxShardBytes}-${overwrite}.safetensors`;
        const saves = sets.map((set) =>
          saveFile(set.map((one) => [one.name, one] as const), path, { maxShardBytes, overwrite })
        );
        const results = await Promise.allSettled(saves);
        const saved = results.filter((result) => result.status === "fulfilled");
        if (overwrite) assertEquals(saved.length, 4);
        else {
          assertEquals(saved.length, 1);
          for (const result of results) {
            if (result.status === "rejected") assertEquals(result.reason.code, "FileExists");
          }
        }
        const { paths } = saved[0]!.value;
        await using model = await fastsafeOpen(paths.filter((path) => !path.endsWith(".json")));
        const found = new Set<number>();
        for await (const [, { bytes }] of model) for (const at of [0, size - 1]) found.add(bytes[at]!);
        assertEquals(found.size, 1);
      }
    }
    assertEquals(namesIn(folder).filter((name) => name.startsWith(".")), []);
  });
}

function streamTests(test: DefineTest): void {
  const shape = (name: string): TensorShape => ({ name, dtype: "U8", shape: [2] });
  const large = { dtype: "U8", shape: [2 ** 21], data: new Uint8Array(2 ** 21) } as const;
  const cases: [
    what: string,
    comes: [string, SavableTensor][],
    code: SafeTensorsErrorCode,
    name: string,
    text: string,
  ][] = [
    ["lacks a tensor", [["a", tensor]], "TensorNotFound", "b", 'tensor "b" was announced and did not come'],
    ["is empty", [], "TensorNotFound", "a", 'tensor "a" was announced and did not come, nor did 2 more'],
    ["has one more", [["a", tensor], ["x", tensor]], "TensorNotFound", "x", 'tensor "x" was not announced'],
    ["has one twice", [["a", tensor], ["a", tensor]], "DuplicateName", "a", 'tensor "a" came twice'],
    [
      "has a shorter one",
      [["a", { ...tensor, data: new Uint8Array(1) }]],
      "InvalidTensorView",
      "a",
      "its data has 1",
    ],
  ];
  const announced = [shape("a"), shape("b"), { ...large, name: "c" }];

  for (const [what, comes, code, name, text] of cases) {
    test(`saveFile() rejects a stream that ${what}`, async (folder) => {
      let ended = false;
      const stream = async function* () {
        try {
          yield* comes;
        } finally {
          await Promise.resolve();
          ended = true;
        }
      };
      const error = await assertRejects(
        () => saveFile(stream(), `${folder}/x`, { shapes: announced }),
        SafeTensorsError,
        text,
      );
      assertEquals([error.code, error.tensor, ended], [code, name, true]);
      assertEquals(namesIn(folder), []);
    });
  }

  test("saveFile() rejects two shapes of one name", async (folder) => {
    const stream = (async function* () {})();
    const error = await assertRejects(
      () => saveFile(stream, `${folder}/x`, { shapes: [shape("a"), shape("a")] }),
      SafeTensorsError,
    );
    assertEquals([error.code, error.tensor], ["DuplicateName", "a"]);
  });

  test("a stream that throws fails the save with its own error", async (folder) => {
    const own = new Error("the source is gone");
    for (const after of [0, 1, 2]) {
      const stream = async function* (): AsyncGenerator<[string, SavableTensor]> {
        if (after > 0) yield ["c", large];
        if (after > 1) yield ["a", tensor];
        await Promise.resolve();
        throw own;
      };
      const save = () => saveFile(stream(), `${folder}/x`, { shapes: announced, maxShardBytes: 2 });
      assertEquals(await assertRejects(save), own);
      assertEquals(namesIn(folder), []);
    }
  });

  test("saveFile() rejects parts that differ from the announced tensor", async (folder) => {
    for (
      const [sizes, found] of [[[1], "its parts have 1"], [[2, 1], "its parts have more"], [
        [],
        "its parts have 0",
      ]] as const
    ) {
      const parts = async function* () {
        for (const size of sizes) yield new Uint8Array(size);
      };
      const x = { dtype: "U8", shape: [2], parts } as const;
      const error = await assertRejects(() => saveFile({ x }, `${folder}/x`), SafeTensorsError, found);
      assertEquals([error.code, namesIn(folder)], ["InvalidTensorView", []]);
    }
  });
}
