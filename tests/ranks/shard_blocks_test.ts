import { assert, assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../mod.ts";
import { copyStrided, denseCopy } from "../../src/format/strided.ts";
import { rankLayouts, rowBytes, rowRanges, shardBlocks } from "../../src/ranks/shard_blocks.ts";
import { assertBytes, noise, tensorLength, type Written } from "../support/models.ts";
import { partOf } from "./support.ts";

const TENSORS: readonly [Written["dtype"], readonly number[]][] = [
  ["F16", [16, 8]],
  ["U8", [5, 3]],
  ["BF16", [3, 7, 5]],
  ["F32", [1, 9]],
  ["F32", [0, 4]],
  ["F16", [3, 0, 2]],
  ["F4", [6, 8]],
  ["F4", [2, 1]],
  ["F6_E2M3", [4, 3, 4]],
  ["I64", [2]],
];

/** Whether some rank's part has an edge within a byte. */
function cutsByte({ dtype, shape }: Written, dimension: number, size: number): boolean {
  const step = tensorLength({ dtype, shape: shape.slice(dimension + 1) });
  const length = shape[dimension]!, block = Math.ceil(length / size);
  const edges = Array.from({ length: size + 1 }, (_, rank) => Math.min(rank * block, length));
  const rows = shape.slice(0, dimension).reduce((product, one) => product * one, 1);
  return rows > 0 && block < length &&
    edges.some((edge) =>
      Array.from({ length: rows }, (_, row) => (row * length + edge) * step).some((at) => at % 1 > 0)
    );
}

Deno.test("shardBlocks() assigns every byte once, to its rank", () => {
  for (const [dtype, shape] of TENSORS) {
    const tensor = { name: "x", dtype, shape, bytes: noise(tensorLength({ dtype, shape }), 7) };
    for (let dimension = 0; dimension < shape.length; dimension++) {
      for (const size of [1, 2, 3, 4]) {
        const parts = Array.from({ length: size }, (_, rank) => partOf(tensor, dimension, rank, size));
        if (cutsByte(tensor, dimension, size)) {
          const error = assertThrows(() => shardBlocks(tensor, dimension, size), SafeTensorsError);
          assertEquals([error.code, error.tensor], ["MisalignedSlice", "x"]);
          continue;
        }
        const blocks = shardBlocks(tensor, dimension, size);
        assertEquals(blocks.shapes, parts.map((part) => part.shape));
        for (const limit of [1, 10, 40, 1000]) {
          const received = parts.map(() => [] as number[]);
          for (const range of rowRanges(blocks, limit)) {
            const row = rowBytes(blocks.widths);
            assert(range.count === 1 || range.count * row <= limit);
            const layouts = rankLayouts(blocks, range);
            const given = blocks.widths.flatMap((width, rank) => width > 0 ? [rank] : []);
            for (const [index, layout] of layouts.entries()) {
              const target = new Uint8Array(layout.byteLength);
              copyStrided(tensor.bytes, denseCopy(layout), target);
              received[given[index]!]!.push(...target);
            }
          }
          for (const [rank, part] of parts.entries()) {
            assertBytes(
              Uint8Array.from(received[rank]!),
              part.bytes,
              `rank ${rank} of ${size}: ${dtype} [${shape}]`,
            );
          }
        }
      }
    }
  }
});

Deno.test("shardBlocks() sees what lies together as one row", () => {
  const rows = (shape: number[], dimension: number) =>
    shardBlocks({ name: "x", dtype: "F32", shape }, dimension, 2).rows;
  assertEquals(rows([6, 4], 0), 1);
  assertEquals(rows([6, 4], 1), 6);
  assertEquals(rows([1, 1, 8], 2), 1);
  assertEquals(rows([5, 3, 8], 2), 15);
  assertEquals(rows([5, 1], 1), 1);
});

Deno.test("shardBlocks() refuses a cut within a byte, whichever rank it concerns", () => {
  // Rank 0 would get two elements, which is a byte; rank 1 the third.
  for (const shape of [[3, 1], [1, 3]]) {
    const dimension = shape.indexOf(3);
    const tensor = { name: "x", dtype: "F4", shape } as const;
    const error = assertThrows(
      () => shardBlocks(tensor, dimension, 2),
      SafeTensorsError,
      "it would cut a byte",
    );
    assertEquals(error.code, "MisalignedSlice");
  }
});

Deno.test("shardBlocks() refuses dimensions that a tensor does not have", () => {
  const cut = (shape: number[], dimension: number) => () =>
    shardBlocks({ name: "x", dtype: "F32", shape }, dimension, 2);
  assertThrows(cut([], 0), RangeError, "it has no dimensions");
  assertThrows(cut([4, 4], 2), RangeError, "its dimensions are 0 to 1");
  assertThrows(cut([4, 4], -1), RangeError, "along dimension -1");
  assertThrows(cut([4, 4], 0.5), RangeError, "along dimension 0.5");
});
