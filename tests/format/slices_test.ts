import { assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import type { DType } from "../../src/base/dtype.ts";
import { shardSlice, type SliceIndex, type SliceLayout, sliceLayout } from "../../src/format/slices.ts";
import { copyStrided, denseCopy } from "../../src/format/strided.ts";
import { below, pick, seededRandom } from "./mutations.ts";

const layout = (dtype: DType, shape: number[], ...slices: SliceIndex[]) =>
  sliceLayout({ name: "x", dtype, shape }, slices);

/** Copies a slice out of its tensor. */
function gather(source: Uint8Array, found: SliceLayout, target: Uint8Array): void {
  copyStrided(source, denseCopy(found), target);
}

/** The elements of a U8 tensor 0, 1, 2, … that a slice selects, and their shape. */
function take(shape: number[], ...slices: SliceIndex[]): { shape: readonly number[]; values: number[] } {
  const found = layout("U8", shape, ...slices);
  const source = new Uint8Array(shape.reduce((product, dimension) => product * dimension, 1)).map((_, i) =>
    i
  );
  const target = new Uint8Array(found.byteLength);
  gather(source, found, target);
  return { shape: found.shape, values: [...target] };
}

/**
 * The same, one element at a time: each dimension becomes the list of its selected positions. `undefined` for an
 * invalid slice.
 */
function takeNaively(
  shape: number[],
  slices: SliceIndex[],
): { shape: number[]; values: number[] } | undefined {
  const dots = slices.indexOf("...");
  const full: SliceIndex[] = dots < 0 ? [...slices] : slices.slice(0, dots);
  if (dots >= 0) {
    while (full.length < shape.length - (slices.length - dots - 1)) full.push(null);
    full.push(...slices.slice(dots + 1));
  }
  while (full.length < shape.length) full.push(null);
  if (full.length > shape.length || full.includes("...")) return undefined;
  let elements: { at: number; key: number[] }[] = [{ at: 0, key: [] }];
  const resultShape: number[] = [];
  for (const [dimension, slice] of full.entries()) {
    const length = shape[dimension]!;
    let positions: number[] = [];
    if (typeof slice === "number") {
      if (slice >= length || slice < -length) return undefined;
      positions = [(slice + length) % length];
    } else {
      const [start, stop, step] = (slice ?? []) as readonly (number | null)[];
      const from = start == null ? 0 : start < 0 ? start + length : start;
      const to = stop == null ? length : stop < 0 ? stop + length : stop;
      for (let i = Math.max(from, 0); i < to && i < length; i += step ?? 1) positions.push(i);
      resultShape.push(positions.length);
    }
    elements = elements.flatMap(({ at, key }) =>
      positions.map((i) => ({ at: at * length + i, key: [...key, i] }))
    );
  }
  return { shape: resultShape, values: elements.map(({ at }) => at) };
}

Deno.test("sliceLayout() and copyStrided() select the elements that NumPy selects", () => {
  // Made by NumPy 2.4 from arange(24).reshape(2, 3, 4).
  assertEquals(take([2, 3, 4], -1, "...", [null, null, 2]), {
    shape: [3, 2],
    values: [12, 14, 16, 18, 20, 22],
  });
  assertEquals(take([2, 3, 4], null, [-2], [1, 99]), {
    shape: [2, 2, 3],
    values: [5, 6, 7, 9, 10, 11, 17, 18, 19, 21, 22, 23],
  });
  assertEquals(take([2, 3, 4], [1, 0]), { shape: [0, 3, 4], values: [] });
  assertEquals(take([2, 3, 4], 1, 2, 3), { shape: [], values: [23] });
  assertEquals(take([2, 3, 4], "...", 0), { shape: [2, 3], values: [0, 4, 8, 12, 16, 20] });
  assertEquals(take([], "..."), { shape: [], values: [0] });
  assertEquals(take([3], [undefined, undefined, undefined]), { shape: [3], values: [0, 1, 2] });
});

Deno.test("sliceLayout() and copyStrided() agree with a naive implementation", () => {
  const random = seededRandom(3);
  const bound = (length: number) =>
    pick(random, [null, null, below(random, length + 2), -below(random, length + 2), 99, -99]);
  let taken = 0;
  for (let i = 0; i < 10_000; i++) {
    const shape = Array.from({ length: below(random, 5) }, () => random() < 0.05 ? 0 : 1 + below(random, 4));
    const slices = Array.from({ length: below(random, shape.length + 2) }, (_, dimension): SliceIndex => {
      const length = shape[dimension] ?? 1;
      const kind = random();
      if (kind < 0.2) return below(random, 2 * length + 1) - length;
      if (kind < 0.3) return null;
      if (kind < 0.4) return "...";
      return [bound(length), bound(length), pick(random, [null, 1, 1, 2, 3, 50])];
    });
    const expected = takeNaively(shape, slices);
    const what = JSON.stringify([shape, slices]);
    if (expected === undefined) assertThrows(() => take(shape, ...slices), SafeTensorsError, "x", what);
    else {
      taken++;
      assertEquals(take(shape, ...slices), expected, what);
    }
  }
  assertEquals(taken > 5000, true);
});

Deno.test("copyStrided() copies elements of every size at every alignment, in short runs and long", () => {
  const dtypes: [DType, number][] = [["U8", 1], ["U16", 2], ["F32", 4], ["C64", 8], ["U64", 8]];
  for (const [dtype, size] of dtypes) {
    for (const slices of [[null, [1, null, 3]], [[0, null, 2], [5, 300]], [[1], 7]] as SliceIndex[][]) {
      const rows = 5;
      const columns = 400;
      const found = layout(dtype, [rows, columns], ...slices);
      const elements = takeNaively([rows, columns], slices)!.values;
      for (const shift of [0, 1, 2, 4]) {
        const source = new Uint8Array(rows * columns * size + shift).map((_, i) => (i * 31 + (i >> 8)) & 0xff)
          .subarray(shift);
        const expected = elements.flatMap((at) => [...source.subarray(at * size, (at + 1) * size)]);
        const room = new Uint8Array(found.byteLength + 5);
        gather(source, found, room.subarray(1, 1 + found.byteLength));
        assertEquals(room, Uint8Array.from([0, ...expected, 0, 0, 0, 0]));
      }
    }
  }
});

Deno.test("sliceLayout() merges contiguous levels", () => {
  assertEquals(layout("F32", [4, 5, 6]), {
    shape: [4, 5, 6],
    byteLength: 480,
    offset: 0,
    run: 480,
    levels: [],
  });
  assertEquals(layout("F32", [4, 5, 6], [1, 3]), {
    shape: [2, 5, 6],
    byteLength: 240,
    offset: 120,
    run: 240,
    levels: [],
  });
  assertEquals(layout("F32", [4, 1, 6], null, 0), {
    shape: [4, 6],
    byteLength: 96,
    offset: 0,
    run: 96,
    levels: [],
  });
  assertEquals(layout("F32", [4, 5, 6], null, [1, 3]), {
    shape: [4, 2, 6],
    byteLength: 192,
    offset: 24,
    run: 48,
    levels: [{ count: 4, stride: 120 }],
  });
  assertEquals(layout("BF16", [4, 6], null, [0, null, 2]).levels, [{ count: 12, stride: 4 }]);
  assertEquals(layout("BF16", [4, 5], null, [0, null, 2]).levels, [{ count: 4, stride: 10 }, {
    count: 3,
    stride: 4,
  }]);
  assertEquals(layout("U8", [3, 4, 5], [0, null, 2], [0, 2], 1).levels, [{ count: 2, stride: 40 }, {
    count: 2,
    stride: 5,
  }]);
  assertEquals(layout("U8", [7], [2, 3, 5]), { shape: [1], byteLength: 1, offset: 2, run: 1, levels: [] });
});

Deno.test("sliceLayout() returns an empty layout for an empty result", () => {
  const empty = { byteLength: 0, offset: 0, run: 0, levels: [] };
  assertEquals(layout("F32", [4, 5], [2, 2]), { shape: [0, 5], ...empty });
  assertEquals(layout("F32", [0, 2 ** 60], null, [5, 7]), { shape: [0, 2], ...empty });
  assertEquals(layout("F4", [3, 0]), { shape: [3, 0], ...empty });
  gather(new Uint8Array(), layout("F32", [4, 5], [9]), new Uint8Array());
});

Deno.test("sliceLayout() slices sub-byte dtypes at whole bytes", () => {
  assertEquals(layout("F4", [3, 4], 1), { shape: [4], byteLength: 2, offset: 2, run: 2, levels: [] });
  assertEquals(layout("F4", [3, 4], null, [2]), {
    shape: [3, 2],
    byteLength: 3,
    offset: 1,
    run: 1,
    levels: [{ count: 3, stride: 2 }],
  });
  assertEquals(layout("F6_E3M2", [4, 2], [0, null, 1]).run, 6);
  for (
    const [dtype, shape, slices] of [
      ["F4", [4], [0]],
      ["F4", [4], [[1, 3]]],
      ["F4", [4], [[0, 3]]],
      ["F4", [4], [[0, null, 2]]],
      ["F4", [2, 3], [1]],
      ["F6_E2M3", [8], [[0, 2]]],
      ["F6_E2M3", [4, 2], [[0, null, 2]]],
    ] as [DType, number[], SliceIndex[]][]
  ) {
    const error = assertThrows(() => layout(dtype, shape, ...slices), SafeTensorsError, "cut a byte");
    assertEquals([error.code, error.tensor], ["MisalignedSlice", "x"]);
  }
});

Deno.test("sliceLayout() rejects slices outside of the tensor", () => {
  const code = (...slices: SliceIndex[]) =>
    assertThrows(() => layout("U8", [2, 3], ...slices), SafeTensorsError, 'tensor "x"').code;
  assertEquals(code(2), "SliceOutOfRange");
  assertEquals(code(-3), "SliceOutOfRange");
  assertEquals(code(null, 3), "SliceOutOfRange");
  assertEquals(code(null, null, null), "TooManySlices");
  assertEquals(code(0, 0, [0]), "TooManySlices");
  assertEquals(code("...", 0, "..."), "TooManySlices");
  for (const step of [0, -1, 1.5, NaN]) {
    assertThrows(() => layout("U8", [2], [0, 2, step]), RangeError, "step");
  }
  for (const bad of [0.5, NaN, Infinity]) {
    assertThrows(() => layout("U8", [2], bad), RangeError, "index");
    assertThrows(() => layout("U8", [2], [bad]), RangeError, "start");
    assertThrows(() => layout("U8", [2], [0, bad]), RangeError, "stop");
  }
  assertThrows(() => layout("U8", [2], "x" as "..."), TypeError);
});

Deno.test("shardSlice() divides a dimension into equal blocks, except the last ones", () => {
  const blocks = (length: number, size: number) =>
    Array.from({ length: size }, (_, rank) => Object.values(shardSlice([9, length], 1, rank, size)));
  assertEquals(blocks(8, 4), [[0, 2], [2, 4], [4, 6], [6, 8]]);
  assertEquals(blocks(7, 3), [[0, 3], [3, 6], [6, 7]]);
  assertEquals(blocks(5, 4), [[0, 2], [2, 4], [4, 5], [5, 5]]);
  assertEquals(blocks(2, 4), [[0, 1], [1, 2], [2, 2], [2, 2]]);
  assertEquals(blocks(0, 2), [[0, 0], [0, 0]]);
  assertEquals(blocks(6, 1), [[0, 6]]);
});

Deno.test("shardSlice() rejects dimensions and ranks that do not exist", () => {
  for (
    const [dimension, rank, size] of [[2, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 2], [0, 0, 0], [0, 0.5, 2], [
      0,
      0,
      1.5,
    ]]
  ) {
    assertThrows(() => shardSlice([4, 4], dimension!, rank!, size!), RangeError);
  }
  assertThrows(() => shardSlice([], 0, 0, 1), RangeError);
});
