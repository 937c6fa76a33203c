import { assert, assertEquals, assertThrows } from "@std/assert";
import { sliceLayout } from "../../src/format/slices.ts";
import { copyStrided, cutCopy, denseCopy, runOffsets, stridedReads } from "../../src/format/strided.ts";

Deno.test("cutCopy() cuts a copy into parts that fill it in order", () => {
  const layout = sliceLayout({ name: "x", dtype: "U8", shape: [5, 6, 40] }, [[0, 5, 2], [1, 5], [0, 30]]);
  for (const bytes of [1, 7, 30, 31, 100, 120, 1000]) {
    const offsets: number[] = [];
    for (const { byteLength, offset, targetOffset, run, levels } of cutCopy(denseCopy(layout), bytes)) {
      assertEquals(targetOffset, offsets.length);
      assert(byteLength <= bytes || (levels.length === 0 && run <= bytes));
      const starts = levels.reduce(
        (starts, { count, stride }) =>
          starts.flatMap((start) => Array.from({ length: count }, (_, index) => start + index * stride)),
        [offset],
      );
      for (const start of starts) for (let at = 0; at < run; at++) offsets.push(start + at);
    }
    const expected = [0, 2, 4].flatMap((plane) =>
      [1, 2, 3, 4].flatMap((row) =>
        Array.from({ length: 30 }, (_, column) => plane * 240 + row * 40 + column)
      )
    );
    assertEquals(offsets, expected, `${bytes} bytes`);
  }
});

Deno.test("cutCopy() yields no part of an empty copy", () => {
  const layout = sliceLayout({ name: "x", dtype: "F32", shape: [4, 5] }, [[9]]);
  assertEquals([...cutCopy(denseCopy(layout), 16)], []);
});

Deno.test("cutCopy() and stridedReads() take at least one element at a time", () => {
  const copy = denseCopy({ offset: 8, run: 24, levels: [{ count: 2, stride: 100 }] });
  for (const bytes of [0, 1, 15, 16, 23]) {
    const parts = [...cutCopy(copy, bytes, 8)];
    const atOnce = Math.max(1, Math.floor(bytes / 8));
    const expected = atOnce === 1
      ? [[8, 8], [16, 8], [24, 8], [108, 8], [116, 8], [124, 8]]
      : [[8, 16], [24, 8], [108, 16], [124, 8]];
    assertEquals(parts.map(({ offset, byteLength }) => [offset, byteLength]), expected, `${bytes} bytes`);
    const reads = [...stridedReads(copy, bytes, 0, 8)];
    assertEquals(reads.map(({ offset, byteLength }) => [offset, byteLength]), expected, `${bytes} bytes`);
  }
});

Deno.test("stridedReads() reads gaps up to the length that it is given", () => {
  const copy = denseCopy({ offset: 5, run: 4, levels: [{ count: 2, stride: 50 }, { count: 3, stride: 10 }] });
  const reads = (span: number, gap: number) =>
    Array.from(stridedReads(copy, span, gap, 4), ({ offset, byteLength }) => [offset, byteLength]);
  assertEquals(reads(Infinity, 26), [[5, 74]]);
  assertEquals(reads(Infinity, 25), [[5, 24], [55, 24]]);
  assertEquals(reads(Infinity, 5), [[5, 4], [15, 4], [25, 4], [55, 4], [65, 4], [75, 4]]);
  assertEquals(reads(14, 26), [[5, 14], [25, 4], [55, 14], [75, 4]]);
});

Deno.test("copyStrided() scatters runs and leaves the bytes between them", () => {
  const source = Uint8Array.from({ length: 6 }, (_, i) => i + 1);
  const target = new Uint8Array(12).fill(9);
  const levels = [{ count: 3, stride: 2, targetStride: 4 }];
  copyStrided(source, { byteLength: 6, offset: 0, targetOffset: 1, run: 2, levels }, target);
  assertEquals([...target], [9, 1, 2, 9, 9, 3, 4, 9, 9, 5, 6, 9]);
});

Deno.test("copyStrided() transposes elements of every size", () => {
  const [rows, columns] = [70, 45];
  for (const width of [1, 2, 3, 4, 8]) {
    const matrix = Uint8Array.from({ length: rows * columns * width }, (_, i) => i * 7 + (i >> 8));
    const levels = [
      { count: rows, stride: columns * width, targetStride: width },
      { count: columns, stride: width, targetStride: rows * width },
    ];
    const target = new Uint8Array(matrix.length);
    const copy = { byteLength: target.length, offset: 0, targetOffset: 0, run: width, levels };
    copyStrided(matrix, copy, target);
    const expected: number[] = [];
    for (let column = 0; column < columns; column++) {
      for (let row = 0; row < rows; row++) {
        const at = (row * columns + column) * width;
        expected.push(...matrix.subarray(at, at + width));
      }
    }
    assertEquals([...target], expected, `${width} bytes`);
  }
});

Deno.test("copyStrided() rejects a source and a target that are too short", () => {
  const layout = sliceLayout({ name: "x", dtype: "U16", shape: [4, 4] }, [null, [1, 3]]);
  const copy = (source: number, target: number) =>
    copyStrided(new Uint8Array(source), denseCopy(layout), new Uint8Array(target));
  assertThrows(() => copy(29, 16), RangeError, "30 bytes");
  copy(30, 16);
  assertThrows(() => copy(32, 15), RangeError, "16 bytes");
});

Deno.test("runOffsets() yields the offset of every run", () => {
  assertEquals([...runOffsets(7, [])], [7]);
  assertEquals([...runOffsets(7, [{ count: 2, stride: 100 }, { count: 3, stride: 10 }])], [
    7,
    17,
    27,
    107,
    117,
    127,
  ]);
});
