/**
 * The blocks of quantized tensors, found from shapes.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { findBlocks, scaleNames } from "../../src/format/scaled.ts";

const FOUND: readonly (readonly [shape: number[], scale: number[], block: number[]])[] = [
  [[7168, 2048], [56, 16], [128, 128]],
  [[576, 7168], [5, 56], [128, 128]], // a partial block at the end
  [[100, 50], [1, 1], [100, 50]],
  [[100, 50], [100, 1], [1, 50]],
  [[100, 50], [100], [1, 50]],
  [[100, 50], [1], [100, 50]],
  [[100, 50], [], [100, 50]],
  [[100, 256], [100, 4], [1, 64]],
  [[1024, 1024], [16, 32], [64, 32]],
  [[300, 200], [10, 2], [32, 128]], // powers of two before the divisor
  [[300, 200], [4, 2], [75, 128]],
  [[8, 256, 384], [8, 2, 3], [1, 128, 128]],
  [[8, 256, 384], [8, 1, 1], [1, 256, 384]],
  [[8, 256, 384], [8], [1, 256, 384]],
  [[0, 4], [0, 1], [1, 4]],
  [[0, 4], [1, 1], [1, 4]],
  [[], [], []],
  [[], [1], []],
];

Deno.test("findBlocks() finds the blocks of every kind of scale", () => {
  for (const [shape, scale, block] of FOUND) {
    assertEquals(findBlocks("w", shape, scale).block, block, `[${shape}] and [${scale}]`);
  }
});

Deno.test("findBlocks() uses the given block, and refuses a scale that does not fit", () => {
  assertEquals(findBlocks("w", [300, 90], [3, 1], [100, 100]).block, [100, 90]);
  assertEquals(findBlocks("w", [2, 300, 90], [2, 3, 2], [100, 80]).block, [1, 100, 80]);
  const wrong = [[[4, 4], [2, 2, 2]], [[4, 4], [4, 0]], [[4, 4], [2]], [[5, 7], [3, 3]], [[4, 4], [4, 5]]];
  for (const [shape, scale] of wrong) {
    const message =
      `Cannot dequantize tensor "w": its scale of shape [${scale}] does not fit its shape [${shape}]`;
    assertThrows(() => findBlocks("w", shape!, scale!), TypeError, message);
  }
  assertThrows(
    () => findBlocks("w", [300, 300], [2, 2], [100, 100]),
    TypeError,
    "with blocks of [100,100]",
  );
});

Deno.test("scaleNames() has the names of the formats", () => {
  assertEquals(scaleNames("a.weight"), [
    "a.weight_scale_inv",
    "a.weight_scale",
    "a.weight_scales_inv",
    "a.scale",
  ]);
  assertEquals(scaleNames("a.up"), ["a.up_scale_inv", "a.up_scale", "a.up_scales_inv"]);
});
