import { assert, assertEquals, assertThrows } from "@std/assert";
import { type DType, dtypeBits } from "../../src/base/dtype.ts";
import type { CheckpointTensor } from "../../src/pytorch/storages.ts";
import { applyTransforms, copyPiece, stridedBlocks } from "../../src/pytorch/strided.ts";
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

Deno.test("stridedBlocks() makes any view contiguous, for all strides and block sizes", async () => {
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

Deno.test("stridedBlocks() reads a transposed matrix once, from front to back, into one block", () => {
  const tensor = view("F32", [300, 200], [1, 300]);
  const [block, ...others] = stridedBlocks(tensor, 16_000, Infinity);
  assertEquals(others.length, 0);
  let end = 0;
  for (const piece of block!.pieces) {
    assertEquals(piece.fileOffset, end);
    assert(piece.byteLength <= 16_000);
    end += piece.byteLength;
  }
  assertEquals(end, 300 * 200 * 4);
});

Deno.test("stridedBlocks() reads small gaps and skips large ones", () => {
  const spans = (stride: number) => {
    const [block] = stridedBlocks(view("F32", [4, 4], [stride, 1]), 2 ** 20, Infinity);
    return [...block!.pieces].map(({ fileOffset, byteLength }) => [fileOffset, byteLength]);
  };
  assertEquals(spans(1000), [[0, 12_016]]);
  assertEquals(spans(20_000), [[0, 16], [80_000, 16], [160_000, 16], [240_000, 16]]);
});

Deno.test("stridedBlocks() uses few and long pieces for nearly contiguous views", () => {
  const [block] = stridedBlocks(view("F32", [2, 1000, 1000], [1_000_000, 1000, 1]), 2 ** 30, Infinity);
  const [piece, ...others] = block!.pieces;
  assertEquals(others.length, 0);
  assertEquals([piece!.run, piece!.levels.length], [8_000_000, 0]);
  const expanded = stridedBlocks(view("F32", [1000, 1000], [0, 1]), 2 ** 20, 2 ** 20);
  for (const { pieces } of expanded) {
    const [row, ...more] = pieces;
    assertEquals(more.length, 0);
    assertEquals([row!.byteLength, row!.run], [4000, 4000]);
  }
});

Deno.test("stridedBlocks() yields one element for a scalar and nothing for an empty tensor", () => {
  const [block] = stridedBlocks(view("F64", [], [], 3), 64);
  assertEquals([block!.offset, block!.byteLength], [0, 8]);
  assertEquals([...block!.pieces].map(({ fileOffset, byteLength }) => [fileOffset, byteLength]), [[24, 8]]);
  assertEquals([...stridedBlocks(view("F64", [3, 0], [1, 1]), 64)], []);
});

Deno.test("stridedBlocks() describes a tensor of 2^40 elements without walking it", () => {
  const blocks = stridedBlocks(view("F32", [2 ** 20, 2 ** 20], [0, 1]), 2 ** 20);
  for (let i = 0; i < 100; i++) {
    const { value } = blocks.next();
    assert(value!.byteLength <= 2 ** 20);
  }
});

Deno.test("stridedBlocks() rejects blocks smaller than an element", () => {
  for (const bytes of [0, 15, -1, NaN]) {
    assertThrows(() => [...stridedBlocks(view("F32", [1], [1]), bytes)], RangeError, "at least 16 expected");
    assertThrows(
      () => [...stridedBlocks(view("F32", [1], [1]), 64, bytes)],
      RangeError,
      "at least 16 expected",
    );
  }
});

Deno.test("copyPiece() copies from and to any position in memory", () => {
  const file = storageBytes(5000);
  for (const [dtype, unit] of [["F16", 2], ["F32", 4], ["F64", 8]] as const) {
    const tensor = view(dtype, [7, 3, 5], [1, 40, 8]);
    const expected = byIndices(file, tensor);
    const [block] = stridedBlocks(tensor, 2 ** 20, Infinity);
    const [piece] = block!.pieces;
    for (let shift = 0; shift <= unit; shift++) {
      const span = new Uint8Array(piece!.byteLength + shift).subarray(shift);
      span.set(file.subarray(piece!.fileOffset, piece!.fileOffset + piece!.byteLength));
      const dest = new Uint8Array(expected.length + unit).subarray(
        unit - shift,
        unit - shift + expected.length,
      );
      copyPiece(span, piece!, dest);
      assertEquals([...dest], [...expected], `${dtype} shifted by ${shift}`);
    }
  }
});

Deno.test("copyPiece() copies long runs at any depth", async () => {
  const file = storageBytes(20_000);
  const tensor = view("F32", [3, 4, 2, 20], [50, 300, 0, 1], 5);
  const [block] = stridedBlocks(tensor, 2 ** 20, Infinity);
  const [piece] = block!.pieces;
  assertEquals([piece!.run, piece!.levels.length], [80, 3]);
  assertEquals(await contiguousBytes(memoryReader(file), tensor), byIndices(file, tensor));
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
