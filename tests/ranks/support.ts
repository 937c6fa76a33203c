/**
 * What the tests of several ranks share: files, and the parts of their tensors, element by element.
 */
import { GroupError } from "../../mod.ts";
import { assertEquals } from "@std/assert";
import { testsOf } from "../load/context.ts";
import { useNativeEngine } from "../support/engine.ts";
import { tensorLength, type TensorSpec, type Written } from "../support/models.ts";

/** Defines a test with a folder of its own, in which it must leave no file open. */
export const test = testsOf(await useNativeEngine() === null ? "native" : "portable");

/** Tensors of every kind that is cut in a way of its own. */
export const SPECS: readonly (readonly TensorSpec[])[] = [
  [
    { name: "matrix", dtype: "F16", shape: [16, 8] },
    { name: "uneven", dtype: "F32", shape: [5, 3] },
    { name: "scalar", dtype: "F32", shape: [] },
    { name: "cube", dtype: "BF16", shape: [3, 7, 5] },
  ],
  [
    { name: "vector", dtype: "I64", shape: [2] },
    { name: "empty", dtype: "F32", shape: [0, 4] },
    { name: "hollow", dtype: "F16", shape: [3, 0, 2] },
    { name: "nibbles", dtype: "F4", shape: [6, 8] },
    { name: "sixes", dtype: "F6_E2M3", shape: [4, 3, 4] },
  ],
  [
    { name: "single", dtype: "U8", shape: [1] },
    { name: "deep", dtype: "U8", shape: [2, 3, 4, 5] },
    { name: "wide", dtype: "F64", shape: [1, 9] },
  ],
];

/** One rank's part of a tensor: `ceil(n / size)` elements of the dimension, picked one by one. */
export function partOf(tensor: Written, dimension: number, rank: number, size: number): Written {
  const { name, dtype, shape } = tensor;
  const block = Math.ceil(shape[dimension]! / size);
  const start = Math.min(rank * block, shape[dimension]!), stop = Math.min(start + block, shape[dimension]!);
  const inner = shape.slice(dimension + 1).reduce((product, length) => product * length, 1);
  const outer = shape.slice(0, dimension).reduce((product, length) => product * length, 1);
  const bits = 8 * tensorLength({ dtype, shape: [8] }) / 8;
  const picked: number[] = [];
  for (let o = 0; o < outer; o++) {
    for (let index = start; index < stop; index++) {
      for (let i = 0; i < inner; i++) picked.push((o * shape[dimension]! + index) * inner + i);
    }
  }
  const bytes = new Uint8Array(picked.length * bits / 8);
  for (const [to, from] of picked.entries()) {
    for (let bit = 0; bit < bits; bit++) {
      const read = from * bits + bit, write = to * bits + bit;
      bytes[write >> 3]! |= (tensor.bytes[read >> 3]! >> (read & 7) & 1) << (write & 7);
    }
  }
  return { name, dtype, shape: shape.with(dimension, stop - start), bytes };
}

/** The error of a rank, checked to be a GroupError that names the rank at fault and says why. */
export function assertBlames(
  result: PromiseSettledResult<unknown>,
  rank: number,
  reason: string,
): GroupError {
  if (result.status === "fulfilled") {
    throw new Error(`GroupError expected, ${Deno.inspect(result.value)} given`);
  }
  const error: unknown = result.reason;
  if (!(error instanceof GroupError)) throw error;
  assertEquals(error.rank, rank, error.message);
  if (!error.reason.includes(reason)) throw new Error(`"${reason}" expected in "${error.reason}"`);
  return error;
}
