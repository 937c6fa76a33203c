/**
 * The inputs of a save.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, HostTensor, type Progress, type SavableTensor, saveFile } from "../../mod.ts";
import type { DType } from "../../src/base/dtype.ts";
import type { DefineTest } from "../load/context.ts";
import { type TensorSpec, writeFile, writeShards, type Written } from "../support/models.ts";
import { VisitedElements } from "../support/visited.ts";
import { assertFile, assertFiles, namesIn, pairs, parseFile, referenceFile, written } from "./support.ts";

const SPECS: TensorSpec[] = [
  { name: "w", dtype: "F32", shape: [300, 1000] },
  { name: "10", dtype: "I64", shape: [5] },
  { name: "9", dtype: "I64", shape: [7] },
  { name: "b", dtype: "BOOL", shape: [3] },
  { name: "__proto__", dtype: "U8", shape: [1] },
  { name: "empty", dtype: "F16", shape: [0, 3] },
];

export function sourceTests(test: DefineTest): void {
  test("saveFile() accepts a record, a map, pairs, and streams with their shapes", async (folder) => {
    const data = written(SPECS);
    const all = pairs(data);
    const shapes = data.toReversed();
    const inputs = {
      record: Object.fromEntries(all),
      map: new Map(all),
      list: all,
      generator: all.values().map((pair) => pair),
    };
    const stream = async function* () {
      for (const pair of all) {
        await Promise.resolve();
        yield pair;
      }
    };
    for (const [kind, input] of Object.entries(inputs)) {
      const report = await saveFile(input, `${folder}/${kind}`);
      assertEquals([report.paths, report.tensors, report.aliases.size], [[`${folder}/${kind}`], 6, 0]);
      await assertFile(`${folder}/${kind}`, referenceFile(data));
    }
    await saveFile(stream(), `${folder}/stream`, { shapes });
    await saveFile(all.values(), `${folder}/values`, { shapes: new Set(shapes) });
    await saveFile(new Map(all), `${folder}/map with shapes`, { shapes });
    for (const name of ["stream", "values", "map with shapes"]) {
      await assertFile(`${folder}/${name}`, referenceFile(data));
    }
  });

  test("saveFile() reads a synchronous stream with shapes one tensor at a time", async (folder) => {
    const [first, second] = written([{ name: "a", dtype: "U8", shape: [4] }, {
      name: "b",
      dtype: "U8",
      shape: [4],
    }]);
    let made = 0;
    const lazily = function* (): Generator<[string, SavableTensor]> {
      for (const { name, dtype, shape, bytes } of [second!, first!]) {
        made++;
        yield [name, { dtype, shape, data: bytes }];
      }
    };
    const stream = lazily();
    assertEquals(made, 0);
    await saveFile(stream, `${folder}/x`, { shapes: [first!, second!] });
    await assertFiles(`${folder}/x`, [first!, second!]);
  });

  test("saveFile() accepts every kind of view", async (folder) => {
    const shared = new Uint8Array(new SharedArrayBuffer(2 ** 20 + 16));
    const growable = new Uint8Array(new ArrayBuffer(2 ** 20 + 16, { maxByteLength: 2 ** 21 }));
    const growableShared = new Uint8Array(new SharedArrayBuffer(2 ** 20 + 5, { maxByteLength: 2 ** 21 }));
    shared.fill(1), growable.fill(2), growableShared.fill(3);
    const views = {
      shared: shared.subarray(8),
      growable: growable.subarray(8),
      growableShared,
      dataView: new DataView(new Uint8Array([9, 1, 2, 3]).buffer, 1, 2),
      bigints: new BigInt64Array([-1n, 2n ** 62n]),
      halves: new Float16Array([1, 2.5]),
    };
    const dtypes: Record<string, DType> = { bigints: "I64", halves: "F16" };
    const sizes: Record<string, number> = { bigints: 8, halves: 2 };
    const tensors = Object.entries(views).map(([name, data]) => {
      const shape = [data.byteLength / (sizes[name] ?? 1)];
      return [name, { dtype: dtypes[name] ?? "U8", shape, data: data as Uint8Array }] as const;
    });
    await saveFile(tensors, `${folder}/x`);
    const { tensors: found } = await parseFile(`${folder}/x`);
    for (const [name, { buffer, byteOffset, byteLength }] of Object.entries(views)) {
      assertEquals(found.get(name)!.bytes, new Uint8Array(buffer, byteOffset, byteLength).slice(), name);
    }
  });

  test("saveFile() copies device tensors to the host one by one, and does not dispose them", async (folder) => {
    const data = written(SPECS);
    let copies = 0, disposed = 0;
    const onDevice = data.map(({ name, dtype, shape, bytes }) =>
      [name, {
        dtype,
        shape,
        async copyToHost() {
          assertEquals(++copies, 1);
          await Promise.resolve();
          copies--;
          return { data: bytes };
        },
        [Symbol.dispose]: () => void disposed++,
      }] as const
    );
    await saveFile(onDevice, `${folder}/x`);
    await assertFile(`${folder}/x`, referenceFile(data));
    assertEquals(disposed, 0);
  });

  test("saveFile() disposes the handles that a model returns", async (folder) => {
    const data = written(SPECS);
    const handles = new Set<string>();
    const model = {
      keys: () => data.map(({ name }) => name),
      info: (name: string) => data.find((tensor) => tensor.name === name)!,
      async *[Symbol.asyncIterator]() {
        for (const { name, dtype, shape, bytes } of data) {
          handles.add(name);
          const copyToHost = () => Promise.resolve({ data: bytes });
          yield [name, {
            dtype,
            shape,
            copyToHost,
            [Symbol.dispose]: () => void handles.delete(name),
          }] as const;
          assert(handles.size <= 1);
        }
      },
    };
    await saveFile(model, `${folder}/x`);
    await assertFile(`${folder}/x`, referenceFile(data));
    assertEquals(handles.size, 0);
  });

  test("saveFile() writes a model's tensor with several names once", async (folder) => {
    const data = written([{ name: "embed", dtype: "U8", shape: [3] }, {
      name: "w",
      dtype: "U8",
      shape: [2],
    }]);
    const aliasOf: Record<string, string> = { lm_head: "embed", "tied.1": "left out", "tied.2": "left out" };
    const bytesOf = (name: string) => {
      return data.find((tensor) => tensor.name === (aliasOf[name] === "embed" ? "embed" : name)) ?? data[1]!;
    };
    const names = ["lm_head", "embed", "w", "tied.1", "tied.2"];
    const model = {
      keys: () => names,
      info(name: string) {
        const { dtype, shape } = bytesOf(name);
        return { name, dtype, shape, ...name in aliasOf ? { aliasOf: aliasOf[name]! } : {} };
      },
      async *[Symbol.asyncIterator]() {
        await Promise.resolve();
        for (const name of names) yield [name, { ...bytesOf(name), data: bytesOf(name).bytes }] as const;
      },
    };
    const { aliases, tensors } = await saveFile(model, `${folder}/x`);
    assertEquals([tensors, aliases], [3, new Map([["lm_head", "embed"], ["tied.2", "tied.1"]])]);
    const expected = [...data, { ...data[1]!, name: "tied.1" }];
    await assertFile(`${folder}/x`, referenceFile(expected, { lm_head: "embed", "tied.2": "tied.1" }));
  });

  test("saveFile() reproduces a model with restored aliases", async (folder) => {
    const w = { dtype: "U8", shape: [3], data: new Uint8Array([1, 2, 3]) } as const;
    await saveFile({ embed: w, lm_head: w }, `${folder}/one.safetensors`);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(`${folder}/one.safetensors`, { restoreAliases: true, lazy });
      const { aliases } = await saveFile(model, `${folder}/two-${lazy}.safetensors`);
      assertEquals([model.keys().length, aliases], [2, new Map([["lm_head", "embed"]])]);
      await assertFile(`${folder}/two-${lazy}.safetensors`, await Deno.readFile(`${folder}/one.safetensors`));
    }
  });

  test("saveFile() writes a model with a cast in the dtype of the cast", async (folder) => {
    const single = { dtype: "F32", shape: [3], data: new Float32Array([1, -2, 3.5]) } as const;
    const count = { dtype: "I64", shape: [], data: new BigInt64Array([7n]) } as const;
    await saveFile({ single, count }, `${folder}/source`);
    const half = { dtype: "F16", shape: [3], data: new Float16Array([1, -2, 3.5]) } as const;
    await saveFile({ single: half, count }, `${folder}/half`);
    const double = { dtype: "F64", shape: [3], data: new Float64Array([1, -2, 3.5]) } as const;
    await saveFile({ single: double, count }, `${folder}/double`);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(`${folder}/source`, { dtype: "F16", lazy });
      await saveFile(model, `${folder}/x`, { overwrite: true });
      await assertFile(`${folder}/x`, await Deno.readFile(`${folder}/half`));
      await saveFile(model, `${folder}/x`, { overwrite: true, dtype: "F64" });
      await assertFile(`${folder}/x`, await Deno.readFile(`${folder}/double`));
    }
  });

  test("with the option dtype a stream may contain any float dtype", async (folder) => {
    const values = [1, -2, 3.5, 0.25];
    const arrays = {
      F32: new Float32Array(values),
      F64: new Float64Array(values),
      F16: new Float16Array(values),
      BF16: new Uint16Array([0x3f80, 0xc000, 0x4060, 0x3e80]),
    };
    const floats = Object.keys(arrays) as (keyof typeof arrays)[];
    const tensorOf = (dtype: keyof typeof arrays) =>
      HostTensor.from({ dtype, shape: [4], data: arrays[dtype] });
    const count = { dtype: "I32", shape: [1], data: new Int32Array([5]) } as const;
    for (const dtype of floats) {
      const expected = tensorOf(dtype);
      await saveFile(
        { a: expected, b: await expected.copy(), count },
        `${folder}/expected`,
        { overwrite: true },
      );
      for (const announced of floats) {
        for (const came of floats) {
          const stream = async function* (): AsyncGenerator<[string, SavableTensor]> {
            yield await Promise.resolve(["a", tensorOf(came)]);
            yield ["count", count];
            yield ["b", tensorOf(announced)];
          };
          const shapes = [
            ...["a", "b"].map((name) => ({ name, dtype: announced, shape: [4] })),
            { ...count, name: "count" },
          ];
          let last: Progress | undefined;
          await saveFile(stream(), `${folder}/x`, {
            shapes,
            dtype,
            overwrite: true,
            sync: false,
            onProgress: (progress) => void (last = progress),
          });
          await assertFile(`${folder}/x`, await Deno.readFile(`${folder}/expected`));
          assertEquals(last!.bytes, last!.totalBytes);
          if (came === announced) continue;
          const message =
            `Cannot save tensor "a": announced as ${announced}, came as ${came}: announce ${came}`;
          await assertRejects(() => saveFile(stream(), `${folder}/y`, { shapes }), TypeError, message);
        }
      }
    }
  });

  test("a stream whose tensor differs from its announced dtype or shape is rejected", async (folder) => {
    const cases: [announced: DType, came: DType, shape: number[], text: string][] = [
      ["I32", "F32", [2], "announced as I32, came as F32: announce F32"],
      ["F32", "I32", [2], "announced as F32, came as I32: announce I32"],
      ["F32", "F4", [2], "announced as F32, came as F4: announce F4"],
      ["F32", "f32" as DType, [2], "announced as F32, came as f32: announce f32"],
      ["F32", "F32", [1, 2], "announced with the shape [2], came with [1,2]"],
    ];
    for (const [announced, came, shape, text] of cases) {
      const stream = async function* (): AsyncGenerator<[string, SavableTensor]> {
        yield await Promise.resolve(["a", { dtype: came, shape, data: new Uint8Array(8) }]);
      };
      const shapes = [{ name: "a", dtype: announced, shape: [2] }];
      for (const dtype of [undefined, "BF16"] as const) {
        const options = { shapes, ...dtype && { dtype } };
        await assertRejects(() => saveFile(stream(), `${folder}/x`, options), TypeError, `"a": ${text}`);
      }
    }
    assertEquals(namesIn(folder), []);
  });

  test("saveFile() writes tensors in parts, and allows the reuse of a part after its write", async (folder) => {
    const data = written([
      { name: "large", dtype: "F32", shape: [3 * 2 ** 20 + 5] },
      { name: "small", dtype: "F32", shape: [11] },
      { name: "none", dtype: "F32", shape: [0] },
    ]);
    const lent = new Set<Uint8Array>();
    let most = 0;
    const inParts = ({ bytes }: Written, size: number) => ({
      async *parts() {
        for (let at = 0; at < bytes.byteLength; at += size) {
          const part = bytes.slice(at, at + size);
          lent.add(part);
          most = Math.max(most, lent.size);
          yield part;
        }
      },
      written(part: Uint8Array) {
        assert(lent.delete(part));
        part.fill(0); // reused
      },
    });
    for (const size of [4 * 1013, 4 * 2 ** 18, 4 * (2 ** 18 + 1), 4 * (2 ** 20 + 1), 2 ** 25]) {
      const tensors = data.map((tensor) =>
        [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, ...inParts(tensor, size) }] as const
      );
      await saveFile(tensors, `${folder}/x`, { overwrite: true });
      await assertFile(`${folder}/x`, referenceFile(data));
      assertEquals(lent.size, 0);
    }
    assert(most > 1);
  });

  test("saveFile() merges a sharded model into one file, for any order of its tensors", async (folder) => {
    const { indexPath, tensors } = await writeShards(folder, [
      [{ name: "m", dtype: "F32", shape: [400, 1000] }, { name: "a", dtype: "I16", shape: [9] }],
      [{ name: "z", dtype: "U8", shape: [1] }, { name: "b", dtype: "BF16", shape: [33] }],
      [{ name: "k", dtype: "F64", shape: [3] }, { name: "c", dtype: "BF16", shape: [700, 1000] }],
    ]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(indexPath, { lazy });
      await saveFile(model, `${folder}/one-${lazy}`);
      await assertFile(`${folder}/one-${lazy}`, referenceFile(tensors));
    }
  });

  test("saveFile() replaces the file that the model is read from", async (folder) => {
    const path = `${folder}/x.safetensors`;
    const tensors = await writeFile(path, [{ name: "x", dtype: "F32", shape: [2 ** 20] }]);
    await using model = await fastsafeOpen(path, { lazy: true });
    await saveFile(model, path, { overwrite: true, metadata: { new: "yes" } });
    await assertFile(path, referenceFile(tensors, { new: "yes" }));
  });

  test("a lazy model streams into another file in bounded memory", async (folder) => {
    const size = 24 * 2 ** 20, count = 24;
    const specs = Array.from(
      { length: count },
      (_, n): TensorSpec => ({ name: `t${n}`, dtype: "U8", shape: [size] }),
    );
    const source = `${folder}/source.safetensors`;
    await writeFile(
      source,
      specs.map((spec) => ({ ...spec, bytes: new Uint8Array(size).fill(spec.name.length) })),
    );
    const before = Deno.memoryUsage().rss;
    let most = 0;
    await using model = await fastsafeOpen(source, { lazy: true });
    const report = await saveFile(model, `${folder}/copy.safetensors`, {
      onProgress: () => most = Math.max(most, Deno.memoryUsage().rss),
    });
    assertEquals(report.tensors, count);
    // Two batches of 128 MiB, and garbage that is not collected yet; the model has 576 MiB.
    assert(most - before < 450 * 2 ** 20, `${most - before} bytes`);
  });

  test("saveFile() writes 90,000 small tensors with no more work for each than for few", async (folder) => {
    const count = 90_000;
    const data = new Float32Array(count).map((_, index) => index);
    /** Saves so many tensors, and returns how often their elements and elements of arrays are looked at. */
    const save = async (many: number) => {
      let reads = 0;
      const tensors = new Map(
        Array.from({ length: many }, (_, n) => [
          `model.layers.${n % 64}.experts.${n}.scale`,
          {
            dtype: "F32",
            shape: [],
            get data() {
              reads++;
              return data.subarray(n, n + 1);
            },
          } as const,
        ]),
      );
      using visited = new VisitedElements();
      await saveFile(tensors, `${folder}/${many}.safetensors`, { dtype: "BF16" });
      await saveFile(tensors, `${folder}/${many}-cut.safetensors`, { maxShardBytes: 100_000 });
      return visited.count + reads;
    };
    const few = await save(count / 10), all = await save(count);
    await using model = await fastsafeOpen(`${folder}/${count}.safetensors`, { dtype: "F32" });
    await using shards = await fastsafeOpen(`${folder}/${count}-cut.safetensors.index.json`);
    for (const n of [0, 1, 2, 63, 64, 255]) {
      const name = `model.layers.${n % 64}.experts.${n}.scale`;
      assertEquals((await model.getTensor(name)).data, new Float32Array([n]));
      assertEquals((await shards.getTensor(name)).data, new Float32Array([n]));
    }
    assertEquals([model.keys().length, shards.keys().length], [count, count]);
    // About ten times as much; a hundred times, if each tensor were compared with all others.
    assert(all < 20 * few, `${all} looks for ${count} tensors, ${few} for a tenth of them`);
  });
}
