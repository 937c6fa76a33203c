import { assert, assertEquals } from "@std/assert";
import { type DType, dtypeBits } from "../../src/base/dtype.ts";
import type { CheckpointTensor } from "../../src/pytorch/storages.ts";
import { applyTransforms, blockReads, readBlock, viewBlocks } from "../../src/pytorch/strided.ts";
import { copyStrided, type StridedRead } from "../../src/format/strided.ts";
import { clockOfLooks, turnsDuring } from "../support/turns.ts";
import { contiguousBytes, memoryReader } from "./support.ts";

/** A tensor over a storage that fills the file from `storageStart`. */
function view(
  dtype: DType,
  shape: number[],
  strides: number[],
  offset = 0,
  storageStart = 0,
): CheckpointTensor {
  return {
    name: "w",
    dtype,
    shape,
    strides,
    fileOffset: storageStart + offset * Math.max(1, dtypeBits(dtype) / 8),
    storage: "0",
    storageStart,
    storageBytes: 2 ** 20,
    contiguous: false,
    byteSwap: 0,
    conjugate: false,
    negative: false,
  };
}

/** Bytes in which adjacent elements differ. */
function storageBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 167 + (i >> 8) * 59) & 0xff);
}

/** Computes the contiguous bytes, one element at a time. */
function byIndices(file: Uint8Array, { dtype, shape, strides, fileOffset }: CheckpointTensor): Uint8Array {
  const element = dtypeBits(dtype) / 8;
  const count = shape.reduce((product, size) => product * size, 1);
  const result = new Uint8Array(count * element);
  for (let i = 0; i < count; i++) {
    let rest = i;
    let at = 0;
    for (let d = shape.length - 1; d >= 0; d--) {
      at += (rest % shape[d]!) * strides[d]!;
      rest = Math.floor(rest / shape[d]!);
    }
    const from = fileOffset + at * element;
    result.set(file.subarray(from, from + element), i * element);
  }
  return result;
}

/** A generator of pseudorandom integers below a bound. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
}

Deno.test("viewBlocks() and blockReads() make any view contiguous, for all strides and block sizes", async () => {
  const next = random(1);
  const file = storageBytes(70_000);
  const dtypes: DType[] = ["I8", "F16", "F32", "F64", "C64"];
  for (let round = 0; round < 600; round++) {
    const dtype = dtypes[next(dtypes.length)]!;
    const rank = next(6);
    const shape = Array.from({ length: rank }, () => 1 + next(6));
    // Some are permutations of a contiguous tensor; the others are arbitrary, with overlaps and repetitions.
    let strides = shape.map(() => next(30));
    if (next(2) === 0) {
      const order = shape.map((_, i) => i).sort(() => next(3) - 1);
      let stride = 1;
      strides = new Array(rank);
      for (const d of order) {
        strides[d] = stride;
        stride *= shape[d]!;
      }
    }
    const tensor = view(dtype, shape, strides, next(20), next(64));
    const expected = byIndices(file, tensor);
    for (const [span, block] of [[16, 16], [64, 40], [16 + next(500), 16 + next(500)], [2 ** 20, Infinity]]) {
      const found = await contiguousBytes(memoryReader(file), tensor, span, block);
      assertEquals(found, expected, JSON.stringify({ dtype, shape, strides, span, block }));
    }
  }
});

/** The reads of a tensor as one block. */
function readsOf(tensor: CheckpointTensor, spanBytes: number): StridedRead[] {
  const [block, ...others] = viewBlocks(tensor, Infinity);
  assertEquals(others.length, 0);
  return [...blockReads(tensor, block!, spanBytes)];
}

Deno.test("blockReads() reads a transposed matrix once, from front to back, into one block", () => {
  let end = 0;
  for (const { offset, byteLength } of readsOf(view("F32", [300, 200], [1, 300]), 16_000)) {
    assertEquals(offset, end);
    assert(byteLength <= 16_000);
    end += byteLength;
  }
  assertEquals(end, 300 * 200 * 4);
});

Deno.test("blockReads() reads small gaps and skips large ones", () => {
  const spans = (stride: number) => {
    const reads = readsOf(view("F32", [4, 4], [stride, 1]), 2 ** 20);
    return reads.map(({ offset, byteLength }) => [offset, byteLength]);
  };
  assertEquals(spans(1000), [[0, 12_016]]);
  assertEquals(spans(20_000), [[0, 16], [80_000, 16], [160_000, 16], [240_000, 16]]);
});

Deno.test("blockReads() yields few and long reads for nearly contiguous views", () => {
  const [read, ...others] = readsOf(view("F32", [2, 1000, 1000], [1_000_000, 1000, 1]), 2 ** 30);
  assertEquals(others.length, 0);
  assertEquals([read!.copy.run, read!.copy.levels.length], [8_000_000, 0]);
  const expanded = view("F32", [1000, 1000], [0, 1]);
  for (const block of viewBlocks(expanded, 2 ** 20)) {
    const [row, ...more] = blockReads(expanded, block, 2 ** 20);
    assertEquals(more.length, 0);
    assertEquals([row!.byteLength, row!.copy.run], [4000, 4000]);
  }
});

Deno.test("viewBlocks() yields one element for a scalar and nothing for an empty tensor", () => {
  const scalar = view("F64", [], [], 3);
  const [block] = viewBlocks(scalar, 64);
  assertEquals([block!.targetOffset, block!.byteLength], [0, 8]);
  assertEquals(readsOf(scalar, 64).map(({ offset, byteLength }) => [offset, byteLength]), [[24, 8]]);
  assertEquals([...viewBlocks(view("F64", [3, 0], [1, 1]), 64)], []);
});

Deno.test("viewBlocks() describes a tensor of 2^40 elements without walking it", () => {
  const blocks = viewBlocks(view("F32", [2 ** 20, 2 ** 20], [0, 1]), 2 ** 20);
  for (let i = 0; i < 100; i++) {
    const { value } = blocks.next();
    assert(value!.byteLength <= 2 ** 20);
  }
});

Deno.test("copyStrided() copies from and to any position in memory", () => {
  const file = storageBytes(5000);
  for (const [dtype, unit] of [["F16", 2], ["F32", 4], ["F64", 8]] as const) {
    const tensor = view(dtype, [7, 3, 5], [1, 40, 8]);
    const expected = byIndices(file, tensor);
    const [{ offset, byteLength, copy }] = readsOf(tensor, 2 ** 20) as [StridedRead];
    for (let shift = 0; shift <= unit; shift++) {
      const span = new Uint8Array(byteLength + shift).subarray(shift);
      span.set(file.subarray(offset, offset + byteLength));
      const dest = new Uint8Array(expected.length + unit).subarray(
        unit - shift,
        unit - shift + expected.length,
      );
      copyStrided(span, copy, dest);
      assertEquals([...dest], [...expected], `${dtype} shifted by ${shift}`);
    }
  }
});

Deno.test("copyStrided() copies long runs at any depth", async () => {
  const file = storageBytes(200_000);
  const tensor = view("F32", [3, 4, 2, 150], [500, 3000, 0, 1], 5);
  const [{ copy }] = readsOf(tensor, 2 ** 20) as [StridedRead];
  assertEquals([copy.run, copy.levels.length], [600, 3]);
  assertEquals(await contiguousBytes(memoryReader(file), tensor), byIndices(file, tensor));
});

Deno.test("readBlock() gives the event loop turns while it repeats or transforms many bytes", async () => {
  const read = (at: number, target: Uint8Array) => {
    target.set([1, 2, 3, 4].slice(at, at + target.length));
    return Promise.resolve();
  };
  for (const [byteSwap, element] of [[0, 0x04030201], [4, 0x01020304]] as const) {
    const tensor = { ...view("F32", [2 ** 20], [0]), byteSwap };
    const [block] = viewBlocks(tensor, Infinity);
    const target = new Uint8Array(2 ** 22);
    using _ = clockOfLooks(5);
    assert(await turnsDuring(() => readBlock({ read }, tensor, block!, target)) >= 3);
    assert(new Uint32Array(target.buffer).every((found) => found === element));
  }
});

const NOTHING = { byteSwap: 0, conjugate: false, negative: false } as const;

Deno.test("applyTransforms() reverses the bytes of each component", () => {
  const swap = (byteSwap: 2 | 4 | 8, dtype: DType) => {
    const bytes = Uint8Array.from({ length: 16 }, (_, i) => i);
    applyTransforms(bytes, dtype, { ...NOTHING, byteSwap });
    return [...bytes];
  };
  assertEquals(swap(2, "BF16"), [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]);
  assertEquals(swap(4, "C64"), [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]);
  assertEquals(swap(8, "I64"), [7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8]);
});

Deno.test("applyTransforms() negates floats of every size", () => {
  const values = [1, -2, 0, Infinity, 0.5];
  for (
    const [dtype, Type] of [["F16", Float16Array], ["F32", Float32Array], ["F64", Float64Array]] as const
  ) {
    const array = Type.from(values);
    applyTransforms(new Uint8Array(array.buffer), dtype, { ...NOTHING, negative: true });
    assertEquals([...array], values.map((value) => -value));
  }
  const bf16 = Uint16Array.of(0x3f80, 0xc000);
  applyTransforms(new Uint8Array(bf16.buffer), "BF16", { ...NOTHING, negative: true });
  assertEquals([...bf16], [0xbf80, 0x4000]);
});

Deno.test("applyTransforms() conjugates and negates complex numbers", () => {
  const apply = (conjugate: boolean, negative: boolean) => {
    const array = Float32Array.of(1, 2, -3, -4);
    applyTransforms(new Uint8Array(array.buffer), "C64", { byteSwap: 0, conjugate, negative });
    return [...array];
  };
  assertEquals(apply(false, false), [1, 2, -3, -4]);
  assertEquals(apply(true, false), [1, -2, -3, 4]);
  assertEquals(apply(false, true), [-1, -2, 3, 4]);
  assertEquals(apply(true, true), [-1, 2, 3, -4]);
});

Deno.test("applyTransforms() negates after it has swapped bytes", () => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, 1.5);
  applyTransforms(bytes, "F64", { byteSwap: 8, conjugate: false, negative: true });
  assertEquals(new Float64Array(bytes.buffer)[0], -1.5);
});
