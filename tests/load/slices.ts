/**
 * Slices, compared with an element-by-element copy: eager and lazy models return the same, and lazy ones read little.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type DType, SafeTensorsError, type SliceIndex } from "../../mod.ts";
import type { ProcessGroup } from "../../src/ranks/mod.ts";
import { decode, encode } from "../support/floats.ts";
import {
  assertBytes,
  noise,
  tensorLength,
  type TensorSpec,
  writeFile,
  type Written,
} from "../support/models.ts";
import { bytesRead } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

/** NumPy's result, one element after another. */
function walk(
  tensor: Written,
  slices: readonly SliceIndex[],
): { shape: number[]; bytes: Uint8Array<ArrayBuffer> } {
  const { shape: whole } = tensor;
  const ellipsis = slices.indexOf("...");
  const missing = whole.length - slices.filter((slice) => slice !== "...").length;
  const all = ellipsis < 0
    ? [...slices, ...new Array(missing).fill(null)]
    : [...slices.slice(0, ellipsis), ...new Array(missing).fill(null), ...slices.slice(ellipsis + 1)];
  const picked = all.map((slice: Exclude<SliceIndex, "...">, dimension) => {
    const size = whole[dimension]!;
    const indices = Array.from({ length: size }, (_, index) => index);
    if (slice === null) return indices;
    if (typeof slice === "number") return [indices.at(slice)!];
    const [start, stop, step] = slice;
    return indices.slice(start ?? 0, stop ?? size).filter((_, index) => index % (step ?? 1) === 0);
  });
  const element = tensorLength({ dtype: tensor.dtype, shape: [1] });
  const places = picked.reduce<number[]>(
    (outer, indices, dimension) =>
      outer.flatMap((place) => indices.map((index) => place * whole[dimension]! + index)),
    [0],
  );
  const bytes = new Uint8Array(places.length * element);
  for (const [to, from] of places.entries()) {
    bytes.set(tensor.bytes.subarray(from * element, (from + 1) * element), to * element);
  }
  const kept = picked.filter((_, dimension) => typeof all[dimension] !== "number");
  return { shape: kept.map((indices) => indices.length), bytes };
}

/** One rank of a group, with the properties that a model uses. */
function rankOf(rank: number, size: number): ProcessGroup {
  return { rank, size } as ProcessGroup;
}

const CASES: readonly (readonly [shape: readonly number[], ...slices: SliceIndex[][]])[] = [
  [[], []],
  [[], ["..."]],
  [[7], [0], [-1], [[1, 3]], [[-3, null]], [[null, null, 2]], [[5, 2]], [[-100, 100]], [[0, 0]], [[6, 7, 9]]],
  [[0], [[0, 5]], [], [null]],
  [[5, 9], [2], [null, 3], [[1, 4], [2, 8, 3]], [-1, -1], ["...", 0], [[0, 5, 2], null], [[4, 1], 0]],
  [[4, 6, 10], [1, "..."], ["...", [0, 10, 3]], [[0, 4, 2], [1, 6, 2], [0, 10, 4]], [null, 2, null], [
    null,
    null,
    9,
  ]],
  [[3, 1, 5, 4], [null, 0, [0, 5, 2], [1, 3]], [0, "...", -1], [[1, 3], "...", [0, 4, 2]], [null, null, [
    1,
    2,
  ]]],
  [[2, 3, 2, 3, 2], [null, [0, 3, 2], null, [0, 3, 2], [0, 2, 1]], [1, 2, 1, 2, 1], [null, 1, null, 1, null]],
  [[64, 300], [null, [0, 300, 7]], [[3, 60, 5], [10, 290, 11]], [null, [0, 1]], [[0, 64, 63], [100, 200]]],
  [[40, 20_000], [null, [0, 3]], [[0, 40, 3], [19_000, 20_000]], [null, [0, 20_000, 9999]], [39, [
    0,
    20_000,
    2,
  ]]],
  [[3, 70_000], [null, [0, 70_000, 2]], [null, [1, 69_999]], [[0, 3, 2], [0, 70_000, 5000]]],
  [[6, 5, 4096], [null, 2], [null, [0, 5, 2], [0, 4096, 1024]], [[0, 6, 3], null, [5, 4000]]],
];

export function sliceTests(test: DefineTest): void {
  test("getSlice() matches NumPy, for lazy and eager models, with small and large blocks", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const dtypes: DType[] = ["U8", "BF16", "F32", "I64"];
    const specs = CASES.flatMap(([shape], index) => {
      return dtypes.map((dtype): TensorSpec => ({ name: `${index} ${dtype}`, dtype, shape }));
    });
    const tensors = await writeFile(path, specs, { misalignment: 5 });
    for (
      const options of [
        {},
        { lazy: true },
        { lazy: true, blockBytes: 4096, maxThreads: 3, stagingBytes: 65_536 },
        { lazy: true, blockBytes: 32_768, maxThreads: 1, stagingBytes: 65_536 },
      ]
    ) {
      await using model = await fastsafeOpen(path, options);
      for (const [index, [, ...slices]] of CASES.entries()) {
        await Promise.all(dtypes.flatMap((dtype, which) =>
          slices.map(async (slice) => {
            const expected = walk(tensors[index * dtypes.length + which]!, slice);
            const actual = await model.getSlice(`${index} ${dtype}`, ...slice);
            const what = `${dtype} [${CASES[index]![0]}] sliced by ${JSON.stringify(slice)}`;
            assertEquals([actual.dtype, [...actual.shape]], [dtype, expected.shape], what);
            assertBytes(actual.bytes, expected.bytes, what);
            assertEquals(actual.data.byteLength, expected.bytes.byteLength);
          })
        ));
      }
    }
  });

  test("getSlice() casts slices", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const numbers = Array.from({ length: 50 * 600 }, (_, index) => index % 251 - 100);
    const [x] = await writeFile(path, [
      { name: "x", dtype: "F16", shape: [50, 600], bytes: encode(numbers, "F16") },
    ], { misalignment: 3 });
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy, dtype: "F32", blockBytes: 4096 });
      const cases: SliceIndex[][] = [[null, [0, 600, 7]], [3], [[1, 49, 4], [5, 590]], [-1, -1], [[5, 5]]];
      for (const slice of cases) {
        const expected = walk(x!, slice);
        const actual = await model.getSlice("x", ...slice);
        assertEquals([actual.dtype, [...actual.shape]], ["F32", expected.shape]);
        const wide = encode(decode(expected.bytes, "F16"), "F32");
        assertBytes(actual.bytes, wide, `x sliced by ${JSON.stringify(slice)}`);
      }
    }
  });

  test("getSlice() slices sub-byte dtypes at whole bytes only", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const bytes = noise(32, 5);
    await writeFile(path, [{ name: "x", dtype: "F4", shape: [4, 16], bytes }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      assertBytes((await model.getSlice("x", 2)).bytes, bytes.subarray(16, 24), "a row");
      assertBytes((await model.getSlice("x", 1, [2, 6])).bytes, bytes.subarray(9, 11), "4 elements");
      for (const slice of [[1, [1, 6]], [null, 3], [0, 0]] as SliceIndex[][]) {
        const error = await assertRejects(() => model.getSlice("x", ...slice), SafeTensorsError);
        assertEquals([error.code, error.tensor], ["MisalignedSlice", "x"]);
      }
    }
  });

  test("getSlice() rejects positions outside of a tensor", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [4, 6] }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      const codes: [SliceIndex[], string][] = [
        [[4], "SliceOutOfRange"],
        [[-5], "SliceOutOfRange"],
        [[0, 6], "SliceOutOfRange"],
        [[0, 0, 0], "TooManySlices"],
        [["...", 0, "..."], "TooManySlices"],
      ];
      for (const [slice, code] of codes) {
        const error = await assertRejects(() => model.getSlice("x", ...slice), SafeTensorsError);
        assertEquals([error.code, error.tensor], [code, "x"]);
      }
      for (const slice of [[1.5], [NaN], [[0, 4, 0]], [[0, 4, -1]], [[0.5, 2]]] as SliceIndex[][]) {
        await assertRejects(() => model.getSlice("x", ...slice), RangeError, '"x"');
      }
      const error = await assertRejects(() => model.getSlice("y", 0), SafeTensorsError);
      assertEquals(error.code, "TensorNotFound");
    }
  });

  test("getSlice() of a lazy model reads only what the slice needs", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [
      { name: "x", dtype: "F32", shape: [2048, 2048] },
      { name: "y", dtype: "U8", shape: [100] },
    ]);
    const read = async (...slice: SliceIndex[]) => {
      await using model = await fastsafeOpen(path, { lazy: true });
      const before = bytesRead();
      const tensor = await model.getSlice("x", ...slice);
      const asked = bytesRead() - before;
      assertBytes(tensor.bytes, walk(x!, slice).bytes, `x sliced by ${JSON.stringify(slice)}`);
      assertEquals(model.stats().bytes, tensor.byteLength);
      return asked;
    };
    const SLACK = 400_000; // other reads of this process meanwhile
    assert(await read([100, 110]) < 10 * 8192 + SLACK, "10 rows");
    assert(await read([0, 2048, 128], [0, 10]) < 16 * 4096 + SLACK, "10 columns of every 128th row");
    assert(await read(null, 7) < 2048 * 4096 + SLACK, "a column: no more than its pages");
    assert(await read([0, 0]) < SLACK, "nothing");
  });

  test("getSharded() returns the whole tensor in a group of one", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [{ name: "x", dtype: "F16", shape: [4, 6] }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      for (const dimension of [0, 1]) {
        const tensor = await model.getSharded("x", dimension);
        assertEquals(tensor.shape, [4, 6]);
        assertBytes(tensor.bytes, x!.bytes, "x");
      }
      for (const dimension of [2, -1, 0.5, NaN]) {
        await assertRejects(() => model.getSharded("x", dimension), RangeError, '"x"');
      }
    }
  });

  test("getSlice() names the position of an invalid slice, and accepts options last", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "F16", shape: [4, 6] }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      const refused: [unknown[], string][] = [
        [[undefined], "slice 1 must be"],
        [[0, undefined], "slice 2 must be"],
        [[true], "got true"],
        [[{ dtype: "F32" }, 0], "slice 1 must be"],
        [["all"], 'got "all"'],
      ];
      for (const [slices, message] of refused) {
        await assertRejects(() => model.getSlice("x", ...slices as SliceIndex[]), TypeError, message);
      }
      const row = await model.getSlice("x", 1, { dtype: "F32" });
      assertEquals([row.dtype, row.shape], ["F32", [6]]);
      assertEquals((await model.getSlice("x", {})).shape, [4, 6]);
    }
  });

  test("getSharded() reads each rank's rows from the file", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [{ name: "x", dtype: "F16", shape: [7, 5] }]);
    for (const lazy of [false, true]) {
      for (const [rank, rows] of [[0, [0, 3]], [1, [3, 6]], [2, [6, 7]]] as const) {
        await using model = await fastsafeOpen(path, { lazy, group: rankOf(rank, 3), shardPlan: {} });
        const tensor = await model.getSharded("x", 0, { from: "file" });
        assertBytes(tensor.bytes, walk(x!, [rows]).bytes, `rank ${rank}`);
      }
      await using model = await fastsafeOpen(path, { lazy, group: rankOf(2, 4), shardPlan: {} });
      assertBytes(
        (await model.getSharded("x", 1, { from: "file" })).bytes,
        walk(x!, [null, [4, 5]]).bytes,
        "columns",
      );
    }
  });
}
