/**
 * Several files with an index, in the conventions of the Hub.
 */
import { assertEquals } from "@std/assert";
import { fastsafeOpen, saveFile } from "../../mod.ts";
import type { DefineTest } from "../load/context.ts";
import { assertTensor, type TensorSpec } from "../support/models.ts";
import { assertFile, assertFiles, namesIn, pairs, referenceFile, written } from "./support.ts";

const U8 = (name: string, size: number): TensorSpec => ({ name, dtype: "U8", shape: [size] });

/** Names of tensors by shard, for tensors of these sizes with at most 10 bytes in a shard. */
const CUTS: readonly [what: string, sizes: readonly number[], shards: readonly (readonly string[])[]][] = [
  ["fill a shard to the last byte", [4, 6, 1], [["t0", "t1"], ["t2"]]],
  ["do not fit by one byte", [5, 6, 4, 1], [["t0"], ["t1", "t2"], ["t3"]]],
  ["are each as large as a shard", [10, 10, 10], [["t0"], ["t1"], ["t2"]]],
  ["are larger than a shard at first", [11, 3, 4], [["t0"], ["t1", "t2"]]],
  ["are larger than a shard in between", [3, 11, 4, 12, 3], [["t1"], ["t3"], ["t0", "t2", "t4"]]],
  ["are all larger than a shard", [11, 12], [["t0"], ["t1"]]],
  ["are empty at the limit", [10, 0, 1, 0], [["t0", "t1"], ["t2", "t3"]]],
];

export function shardTests(test: DefineTest): void {
  for (const [what, sizes, shards] of CUTS) {
    test(`saveFile() cuts tensors that ${what}`, async (folder) => {
      const data = written(sizes.map((size, n) => U8(`t${n}`, size)));
      const { paths, tensors, bytes } = await saveFile(pairs(data), `${folder}/model.safetensors`, {
        maxShardBytes: 10,
      });
      const number = (n: number) => String(n).padStart(5, "0");
      const files = shards.map((_, n) => `model-${number(n + 1)}-of-${number(shards.length)}.safetensors`);
      assertEquals(paths, [...files, "model.safetensors.index.json"].map((name) => `${folder}/${name}`));
      assertEquals(namesIn(folder), [...files, "model.safetensors.index.json"]);
      for (const [n, names] of shards.entries()) {
        await assertFile(paths[n]!, referenceFile(data.filter(({ name }) => names.includes(name))));
      }
      const total = sizes.reduce((sum, size) => sum + size, 0);
      const entries = shards.flatMap((names, n) => names.map((name) => [name, files[n]!] as const)).sort();
      const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(entries) };
      const text = `${JSON.stringify(index, null, 2)}\n`;
      assertEquals(await Deno.readTextFile(paths.at(-1)!), text);
      assertEquals(tensors, sizes.length);
      assertEquals(bytes, paths.reduce((sum, path) => sum + Deno.statSync(path).size, 0));
    });
  }

  test("saveFile() writes one file and no index if one shard suffices", async (folder) => {
    const data = written([U8("a", 6), U8("b", 4)]);
    for (const [tensors, maxShardBytes] of [[data, 10], [data.slice(1), 1], [[], 1]] as const) {
      const { paths } = await saveFile(pairs(tensors), `${folder}/m.safetensors`, {
        maxShardBytes,
        overwrite: true,
      });
      assertEquals([paths, namesIn(folder)], [[`${folder}/m.safetensors`], ["m.safetensors"]]);
      await assertFile(paths[0]!, referenceFile(tensors));
    }
  });

  test("a sharded model opens by its folder and by its index, with its metadata in every file", async (folder) => {
    const data = written([
      ...Array.from({ length: 20 }, (_, n): TensorSpec => ({ name: `w${n}`, dtype: "F32", shape: [n, 100] })),
      U8("é", 3),
    ]);
    const options = { maxShardBytes: 8000, metadata: { format: "pt" } };
    const { paths } = await saveFile(new Map(pairs(data)), `${folder}/model.safetensors`, options);
    for (const input of [folder, paths.at(-1)!]) {
      await using model = await fastsafeOpen(input);
      assertEquals(model.keys().sort(), data.map(({ name }) => name).sort());
      for (const tensor of data) assertTensor(await model.getTensor(tensor.name), tensor);
      assertEquals(
        model.files().map((file) => model.metadata(file)),
        paths.slice(1).map(() => ({ format: "pt" })),
      );
    }
  });

  test("the size of a shard counts written bytes, after casts", async (folder) => {
    const data = written([{ name: "a", dtype: "F32", shape: [10] }, {
      name: "b",
      dtype: "F32",
      shape: [10],
    }]);
    const { paths } = await saveFile(pairs(data), `${folder}/m.safetensors`, {
      maxShardBytes: 40,
      dtype: "F16",
    });
    assertEquals(paths.length, 1);
  });

  test("the names of shards follow from the path", async (folder) => {
    const data = written([U8("a", 2), U8("b", 2)]);
    for (
      const [name, stem] of [["x.bin", "x.bin"], ["😀 é.safetensors", "😀 é"], [".safetensors", ""]] as const
    ) {
      await saveFile(pairs(data), `${folder}/${name}`, { maxShardBytes: 2 });
      const shards = [`${stem}-00001-of-00002.safetensors`, `${stem}-00002-of-00002.safetensors`];
      const paths = shards.map((shard) => `${folder}/${shard}`);
      await assertFiles(paths, data);
      await using model = await fastsafeOpen(`${folder}/${stem}.safetensors.index.json`);
      assertEquals(model.keys(), ["a", "b"]);
    }
  });

  test("saveFile() writes a thousand shards", async (folder) => {
    const data = written(Array.from({ length: 1000 }, (_, n) => U8(`t${n}`, 1)));
    const options = { maxShardBytes: 1, sync: false };
    const { paths } = await saveFile(pairs(data), `${folder}/model.safetensors`, options);
    assertEquals(paths.length, 1001);
    await assertFiles(paths.slice(0, -1), data);
  });
}
