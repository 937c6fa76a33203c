/**
 * What can be saved.
 */
import { assert, assertEquals } from "@std/assert";
import { fastsafeOpen, type SavableTensor, saveFile } from "../../mod.ts";
import type { DefineTest } from "../load/context.ts";
import { type TensorSpec, writeFile, writeShards, type Written } from "../support/models.ts";
import { assertFile, assertFiles, pairs, parseFile, referenceFile, written } from "./support.ts";

const SPECS: TensorSpec[] = [
  { name: "w", dtype: "F32", shape: [300, 1000] },
  { name: "10", dtype: "I64", shape: [5] },
  { name: "9", dtype: "I64", shape: [7] },
  { name: "b", dtype: "BOOL", shape: [3] },
  { name: "__proto__", dtype: "U8", shape: [1] },
  { name: "empty", dtype: "F16", shape: [0, 3] },
];

export function sourceTests(test: DefineTest): void {
  test("saveFile() takes a record, a map, pairs, and streams with their shapes", async (folder) => {
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

  test("saveFile() asks a synchronous stream with shapes for one tensor after another", async (folder) => {
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

  test("saveFile() takes every kind of view", async (folder) => {
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
    const tensors = Object.entries(views).map(([name, data]) =>
      [name, { dtype: "U8", shape: [data.byteLength], data }] as const
    );
    await saveFile(tensors, `${folder}/x`);
    const { tensors: found } = await parseFile(`${folder}/x`);
    for (const [name, { buffer, byteOffset, byteLength }] of Object.entries(views)) {
      assertEquals(found.get(name)!.bytes, new Uint8Array(buffer, byteOffset, byteLength).slice(), name);
    }
  });

  test("saveFile() copies tensors of a device down, one after another, and leaves them to their owner", async (folder) => {
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

  test("saveFile() disposes of the handles that a model hands over", async (folder) => {
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

  test("saveFile() writes tensors that come in parts, and says when a part can be used again", async (folder) => {
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
        part.fill(0); // used again
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

  test("saveFile() merges a sharded model into one file, whatever the order of its tensors", async (folder) => {
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

  test("saveFile() writes a model over the file that it is read from", async (folder) => {
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
    // Two batches of 128 MiB, and what garbage collection has not yet come to; the model has 576 MiB.
    assert(most - before < 450 * 2 ** 20, `${most - before} bytes`);
  });

  test("saveFile() writes 90,000 small tensors quickly", async (folder) => {
    const count = 90_000;
    const data = new Float32Array(count).map((_, index) => index);
    const tensors = new Map(
      Array.from({ length: count }, (_, n) => [
        `model.layers.${n % 64}.experts.${n}.scale`,
        { dtype: "F32", shape: [], data: data.subarray(n, n + 1) } as const,
      ]),
    );
    const startedAt = performance.now();
    await saveFile(tensors, `${folder}/x.safetensors`, { dtype: "BF16" });
    await saveFile(tensors, `${folder}/y.safetensors`, { maxShardBytes: 100_000 });
    const seconds = (performance.now() - startedAt) / 1000;
    await using model = await fastsafeOpen(`${folder}/x.safetensors`, { dtype: "F32" });
    await using shards = await fastsafeOpen(`${folder}/y.safetensors.index.json`);
    for (const n of [0, 1, 2, 63, 64, 255]) {
      const name = `model.layers.${n % 64}.experts.${n}.scale`;
      assertEquals((await model.getTensor(name)).data, new Float32Array([n]));
      assertEquals((await shards.getTensor(name)).data, new Float32Array([n]));
    }
    assertEquals([model.keys().length, shards.keys().length], [count, count]);
    assert(seconds < 20, `${seconds} s`);
  });
}
