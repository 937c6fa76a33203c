/**
 * The options of a save: casts, metadata and aliases, progress, signals.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  fastsafeOpen,
  type Progress,
  SafeTensorsError,
  type SavableTensor,
  saveFile,
  type SaveOptions,
} from "../../mod.ts";
import type { DefineTest } from "../load/context.ts";
import { decode, encode } from "../support/floats.ts";
import type { TensorSpec } from "../support/models.ts";
import { assertFile, namesIn, pairs, parseFile, referenceFile, written } from "./support.ts";

export function optionTests(test: DefineTest): void {
  castTests(test);
  aliasTests(test);
  progressTests(test);
  signalTests(test);

  test("saveFile() accepts every number of threads, with and without durable", async (folder) => {
    const data = written([
      { name: "a", dtype: "F32", shape: [5 * 2 ** 20 + 3] },
      { name: "b", dtype: "I8", shape: [2 ** 20 + 1] },
      { name: "c", dtype: "I8", shape: [77] },
    ]);
    const expected = referenceFile(data);
    for (const maxThreads of [1, 2, 16]) {
      for (const sync of [true, false]) {
        await saveFile(pairs(data), `${folder}/x`, { maxThreads, sync, overwrite: true });
        await assertFile(`${folder}/x`, expected);
      }
    }
  });

  test("saveFile() returns a report", async (folder) => {
    const data = written([{ name: "a", dtype: "F32", shape: [1000] }]);
    const report = await saveFile(pairs(data), new URL(`file://${folder}/a%20b`));
    assertEquals([report.paths, report.tensors], [[`${folder}/a b`], 1]);
    assertEquals(report.bytes, Deno.statSync(`${folder}/a b`).size);
    assert(report.seconds > 0 && report.seconds < 60);
    assertEquals(report.gigabytesPerSecond, report.bytes / report.seconds / 1e9);
  });

  test("saveFile() rejects options outside of their limits", async (folder) => {
    const wrong: [SaveOptions, string][] = [
      ...[0, -1, 1.5, NaN, Infinity].map((
        maxShardBytes,
      ): [SaveOptions, string] => [{ maxShardBytes }, "maxShardBytes"]),
      ...[0, 17, 1.5, NaN].map((maxThreads): [SaveOptions, string] => [{ maxThreads }, "maxThreads"]),
    ];
    for (const [options, name] of wrong) {
      await assertRejects(() => saveFile({}, `${folder}/x`, options), RangeError, name);
    }
    await assertRejects(
      () => saveFile({}, `${folder}/x`, { dtype: "I32" }),
      TypeError,
      'Cannot cast to "I32"',
    );
    assertEquals(namesIn(folder), []);
  });
}

function castTests(test: DefineTest): void {
  test("saveFile() casts floats only", async (folder) => {
    const values = Array.from({ length: 2000 }, (_, n) => Math.fround((n - 1000) / 7 * 2 ** (n % 11 - 5)));
    const specs: TensorSpec[] = [
      { name: "double", dtype: "F64", shape: [2000], bytes: encode(values, "F64") },
      { name: "single", dtype: "F32", shape: [40, 50], bytes: encode(values, "F32") },
      { name: "brain", dtype: "BF16", shape: [3], bytes: encode([1, -2, 3.5], "BF16") },
      { name: "ints", dtype: "I32", shape: [2] },
      { name: "sub", dtype: "F4", shape: [4] },
      { name: "bools", dtype: "BOOL", shape: [4] },
    ];
    const data = written(specs);
    for (const dtype of ["F16", "BF16", "F32", "F64", "F8_E5M2"] as const) {
      const expected = data.map((tensor): TensorSpec => {
        const from = tensor.dtype;
        if (from !== "F64" && from !== "F32" && from !== "BF16" || from === dtype) return tensor;
        return { ...tensor, dtype, bytes: encode(decode(tensor.bytes, from), dtype) };
      });
      await saveFile(pairs(data), `${folder}/x`, { dtype, overwrite: true });
      await assertFile(`${folder}/x`, referenceFile(expected));
    }
  });

  test("saveFile() casts large and small tensors to larger and smaller dtypes", async (folder) => {
    const large = Float32Array.from({ length: 6 * 2 ** 20 + 1021 }, (_, n) => n % 2048);
    const wide = (name: string, length: number, skip = 0): TensorSpec => ({
      name,
      dtype: "F32",
      shape: [length],
      bytes: new Uint8Array(large.slice(skip, skip + length).buffer),
    });
    const half = (name: string, length: number, skip = 0): TensorSpec => ({
      name,
      dtype: "F16",
      shape: [length],
      bytes: new Uint8Array(Float16Array.from(large.subarray(skip, skip + length)).buffer),
    });
    const sizes = [["a", 5], ["b", large.length - 40], ["c", 3], ["d", 2 ** 20 + 7], ["e", 1000]] as const;
    const singles = written(sizes.map(([name, length], skip) => wide(name, length, skip)));
    const halves = written(sizes.map(([name, length], skip) => half(name, length, skip)));
    for (const sync of [true, false]) {
      await saveFile(pairs(singles), `${folder}/down`, { dtype: "F16", overwrite: true, sync });
      await assertFile(`${folder}/down`, referenceFile(halves));
      await saveFile(pairs(halves), `${folder}/up`, { dtype: "F32", overwrite: true, sync });
      await assertFile(`${folder}/up`, referenceFile(singles));
    }
  });
}

function aliasTests(test: DefineTest): void {
  const data = new Float32Array([1, 2, 3, 4]);
  const tensor = { dtype: "F32", shape: [2, 2], data } as const;

  test("tensors that share memory are written once, with the other names in the metadata", async (folder) => {
    const handle = {
      dtype: "U8",
      shape: [1],
      copyToHost: () => Promise.resolve({ data: new Uint8Array([5]) }),
    } as const;
    const onDevice = (device: string) => ({ ...handle, device, devicePointer: 4096n });
    const report = await saveFile(
      {
        "lm_head.weight": tensor,
        "embed.weight": { ...tensor, data: new Uint8Array(data.buffer) },
        "flat": { ...tensor, shape: [4] },
        "copy": { ...tensor, data: data.slice() },
        "half": { dtype: "F32", shape: [2], data: data.subarray(0, 2) },
        "h1": handle,
        "h2": handle,
        "d1": onDevice("cuda:0"),
        "d2": onDevice("cuda:0"),
        "elsewhere": onDevice("cuda:1"),
        "none1": { dtype: "F32", shape: [0], data: data.subarray(0, 0) },
        "none2": { dtype: "F32", shape: [0], data: data.subarray(0, 0) },
      },
      `${folder}/x`,
      { metadata: { format: "pt" } },
    );
    const aliases = [["embed.weight", "lm_head.weight"], ["h2", "h1"], ["d2", "d1"]] as const;
    assertEquals(report.aliases, new Map(aliases));
    const { metadata, tensors } = await parseFile(`${folder}/x`);
    assertEquals(metadata, { format: "pt", ...Object.fromEntries(aliases) });
    assertEquals([...tensors.keys()].sort(), [
      ...["copy", "d1", "elsewhere", "flat", "h1", "half", "lm_head.weight", "none1", "none2"],
    ]);
    assertEquals(report.tensors, 9);
  });

  test("aliases are in the metadata of every shard", async (folder) => {
    const other = { dtype: "F32", shape: [4], data: data.slice() } as const;
    const { paths } = await saveFile({ a: tensor, b: other, c: tensor }, `${folder}/x.safetensors`, {
      maxShardBytes: 16,
    });
    assertEquals(paths.length, 3);
    for (const path of paths.slice(0, 2)) assertEquals((await parseFile(path)).metadata, { c: "a" });
  });

  test("a stream can announce aliases: it may omit them, and they are not written", async (folder) => {
    const shapes = [{ ...tensor, name: "a" }, { ...tensor, name: "b", aliasOf: "a" }, {
      ...tensor,
      name: "c",
      aliasOf: "a",
    }];
    const stream = async function* () {
      yield* [["b", tensor], ["a", tensor]] as const;
    };
    const { aliases, tensors } = await saveFile(stream(), `${folder}/x`, { shapes });
    assertEquals([aliases, tensors], [new Map([["b", "a"], ["c", "a"]]), 1]);
    const { metadata, tensors: found } = await parseFile(`${folder}/x`);
    assertEquals([metadata, [...found.keys()]], [{ b: "a", c: "a" }, ["a"]]);
    const error = await assertRejects(
      () => saveFile(stream(), `${folder}/y`, { shapes: shapes.slice(1) }),
      SafeTensorsError,
      'tensor "b": it is announced as the same as "a", which is none',
    );
    assertEquals([error.code, error.tensor], ["TensorNotFound", "b"]);
  });

  test("restoreAliases restores aliases, from one file and from shards", async (folder) => {
    const other = { dtype: "F32", shape: [4], data: data.slice() } as const;
    for (const maxShardBytes of [16, 100]) {
      const { paths } = await saveFile({ a: tensor, b: other, c: tensor }, `${folder}/x.safetensors`, {
        maxShardBytes,
        overwrite: true,
      });
      await using model = await fastsafeOpen(paths.at(-1)!, { restoreAliases: true });
      assertEquals(model.keys().sort(), ["a", "b", "c"]);
      const [a, c] = await Promise.all([model.getTensor("a"), model.getTensor("c")]);
      assertEquals([c.name, c.data, c.data.buffer === a.data.buffer], ["c", data, true]);
    }
  });

  test("an alias whose name is another metadata key is rejected", async (folder) => {
    const tensors = { a: tensor, b: tensor };
    const error = await assertRejects(
      () => saveFile(tensors, `${folder}/x`, { metadata: { b: "x" } }),
      SafeTensorsError,
      'Cannot save tensor "b": it is the same memory as "a", which the metadata should say, but there "b" is "x"',
    );
    assertEquals([error.code, error.tensor], ["DuplicateName", "b"]);
    assertEquals(namesIn(folder), []);
    await saveFile(tensors, `${folder}/x`, { metadata: { b: "a" } }); // the metadata of the loaded file
    assertEquals((await parseFile(`${folder}/x`)).metadata, { b: "a" });
  });

  test("an alias with a name that the format forbids is rejected", async (folder) => {
    for (const name of ["__metadata__", "\ud800"]) {
      const error = await assertRejects(
        () => saveFile({ a: tensor, [name]: tensor }, `${folder}/x`),
        SafeTensorsError,
      );
      assertEquals([error.code, error.tensor], ["InvalidTensorView", name]);
    }
    assertEquals(namesIn(folder), []);
  });
}

function progressTests(test: DefineTest): void {
  test("onProgress never decreases and ends at the total", async (folder) => {
    const data = written([{ name: "a", dtype: "F32", shape: [2 ** 22] }, {
      name: "b",
      dtype: "F32",
      shape: [10],
    }]);
    for (const options of [{}, { dtype: "F16" }, { maxShardBytes: 2 ** 23 }] satisfies SaveOptions[]) {
      const told: Progress[] = [];
      const { bytes } = await saveFile(pairs(data), `${folder}/${JSON.stringify(options)}`, {
        ...options,
        onProgress: (progress) => void told.push(progress),
      });
      const last = told.at(-1)!;
      const castAway = "dtype" in options ? 2 * (2 ** 22 + 10) : 0;
      assertEquals(last, {
        ...last,
        bytes: bytes + castAway,
        totalBytes: bytes + castAway,
        tensors: 2,
        totalTensors: 2,
      });
      for (const [index, progress] of told.slice(1).entries()) {
        assert(progress.bytes >= told[index]!.bytes && progress.seconds >= told[index]!.seconds);
      }
    }
  });

  test("an onProgress that throws fails the save without leftover files", async (folder) => {
    const data = written([{ name: "a", dtype: "F32", shape: [2 ** 23] }]);
    const slow: SavableTensor = {
      dtype: "F32",
      shape: [2 ** 23],
      async *parts() {
        for (let at = 0; at < 2 ** 25; at += 2 ** 22) {
          await new Promise((resolve) => setTimeout(resolve, 10));
          yield data[0]!.bytes.subarray(at, at + 2 ** 22);
        }
      },
    };
    const onProgress = ({ bytes }: Progress) => {
      throw new Error(`not ${bytes}`);
    };
    for (const tensor of [slow, { ...pairs(data)[0]![1], shape: [2 ** 23] }]) {
      await assertRejects(() => saveFile({ a: tensor }, `${folder}/x`, { onProgress }), Error, "not ");
      assertEquals(namesIn(folder), []);
    }
  });
}

function signalTests(test: DefineTest): void {
  const reason = new Error("enough");

  test("saveFile() does not start with an aborted signal", async (folder) => {
    const signal = AbortSignal.abort(reason);
    assertEquals(await assertRejects(() => saveFile({}, `${folder}/x`, { signal })), reason);
    assertEquals(namesIn(folder), []);
  });

  test("a signal ends a save at any point", async (folder) => {
    const size = 2 ** 21;
    const path = `${folder}/x.safetensors`;
    await saveFile({ old: { dtype: "U8", shape: [1], data: new Uint8Array([1]) } }, path);
    const old = await Deno.readFile(path);
    const shapes = [0, 1, 2, 3].map((n) => ({ name: `t${n}`, dtype: "U8", shape: [size] } as const));
    for (let stage = 0; stage < 9; stage++) {
      const controller = new AbortController();
      const at = (here: number) => here === stage && controller.abort(reason);
      const stream = async function* (): AsyncGenerator<[string, SavableTensor]> {
        for (const [n, { name, dtype, shape }] of shapes.entries()) {
          at(2 * n);
          const parts = async function* () {
            yield new Uint8Array(size / 2);
            await Promise.resolve();
            at(2 * n + 1);
            yield new Uint8Array(size / 2);
          };
          yield [name, { dtype, shape, parts }];
        }
        at(8);
      };
      for (const maxShardBytes of [2 * size, 4 * size]) {
        const { signal } = controller;
        const error = await assertRejects(() =>
          saveFile(stream(), path, { shapes, signal, maxShardBytes, overwrite: true })
        );
        assertEquals(error, reason);
        assertEquals(namesIn(folder), ["x.safetensors"]);
        await assertFile(path, old);
      }
    }
  });

  test("a signal ends a save whose stream is blocked", async (folder) => {
    const never = Promise.withResolvers<never>();
    const controller = new AbortController();
    let asked = 0;
    const stream = {
      [Symbol.asyncIterator]: () => ({
        next() {
          asked++;
          setTimeout(() => controller.abort(reason), 5);
          return never.promise;
        },
      }),
    };
    const shapes = [{ name: "a", dtype: "U8", shape: [1] } as const];
    const { signal } = controller;
    assertEquals(await assertRejects(() => saveFile(stream, `${folder}/x`, { shapes, signal })), reason);
    assertEquals([asked, namesIn(folder)], [1, []]);
  });

  test("after a late signal either no file or every file appears", async (folder) => {
    const data = written([{ name: "a", dtype: "U8", shape: [3] }, { name: "b", dtype: "U8", shape: [3] }]);
    const path = `${folder}/x.safetensors`;
    for (let delay = 0; delay < 12; delay++) {
      const controller = new AbortController();
      const timer = setTimeout(() => controller.abort(reason), delay);
      let saved = true;
      try {
        await saveFile(pairs(data), path, { signal: controller.signal, maxShardBytes: 3 });
      } catch (error) {
        assertEquals(error, reason);
        saved = false;
      }
      clearTimeout(timer);
      assertEquals(namesIn(folder).length, saved ? 3 : 0);
      for (const name of namesIn(folder)) await Deno.remove(`${folder}/${name}`);
    }
  });
}
