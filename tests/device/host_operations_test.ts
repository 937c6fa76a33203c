/**
 * Slices, casts and joins in host memory, of sizes that need several calls or turns, compared with one element at a
 * time.
 */
import { assert } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { sliceLayout } from "../../src/format/slices.ts";
import { denseCopy, stridedReads } from "../../src/format/strided.ts";
import { type HostOperations, LoopOperations } from "../../src/load/host_operations.ts";
import { NativeOperations } from "../../src/load/native/native_operations.ts";
import { readStrided } from "../../src/load/strided_reads.ts";
import { useNativeEngine } from "../support/engine.ts";
import { assertBytes, noise } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { clockOfLooks, turnsDuring } from "../support/turns.ts";

function operationTests(name: string, operations: () => HostOperations): void {
  Deno.test(`${name} gather slices`, async () => {
    const shape = [3, 1000, 7, 100] as const;
    const source = noise(2_100_000, 1);
    for (const [start, step] of [[0, 1], [3, 2], [99, 50]] as const) {
      const layout = sliceLayout({ name: "x", dtype: "U8", shape }, [null, null, [1, 6], [start, 100, step]]);
      const target = operations().allocate(layout.byteLength);
      await operations().gather(source, layout, target);
      const expected: number[] = [];
      for (let row = 0; row < 3000; row++) {
        for (let column = 1; column < 6; column++) {
          for (let at = start; at < 100; at += step) expected.push(source[row * 700 + column * 100 + at]!);
        }
      }
      assertBytes(target, Uint8Array.from(expected), `from ${start} by ${step}`);
    }
  });

  Deno.test(`${name} cast, and copy`, async () => {
    const values = Float32Array.from({ length: 1_000_003 }, (_, index) => index % 4096 - 2048);
    const source = new Uint8Array(values.buffer);
    const target = operations().allocate(2 * values.length);
    await operations().cast(source, "F32", target, "F16");
    assertBytes(target, new Uint8Array(Float16Array.from(values).buffer), "F16");
    for (const dtype of ["U8", "F4"] as const) {
      const copy = operations().allocate(source.byteLength);
      await operations().cast(source, dtype, copy, dtype);
      assertBytes(copy, source, `copy as ${dtype}`);
    }
    await operations().cast(new Uint8Array(), "F32", new Uint8Array(), "F16");
  });

  Deno.test(`${name} join rows`, async () => {
    // Short rows, rows that are copied at once, and those that several calls share: whole rows, and parts of one.
    const cases = [[1, 7, 200], [3, 7, 200], [5000, 7, 200], [400, 600, 1500], [3, 2_500_000, 3_000_000], [
      1,
      9_000_000,
      12_000_000,
    ]] as const;
    for (const [rows, first, last] of cases) {
      const sources = [first, 0, last].map((width, seed) => noise(rows * width, seed));
      const pitch = first + last;
      const target = operations().allocate(rows * pitch);
      await operations().join(sources, rows, target);
      const expected = new Uint8Array(rows * pitch);
      for (let row = 0; row < rows; row++) {
        expected.set(sources[0]!.subarray(row * first, (row + 1) * first), row * pitch);
        expected.set(sources[2]!.subarray(row * last, (row + 1) * last), row * pitch + first);
      }
      assertBytes(target, expected, `${rows} rows of ${pitch}`);
    }
    const many = Array.from({ length: 3000 }, (_, seed) => noise(100, seed));
    const target = operations().allocate(300_000);
    await operations().join(many, 1, target);
    for (const [index, source] of many.entries()) {
      assertBytes(target.subarray(index * 100, (index + 1) * 100), source, `source ${index}`);
    }
  });

  Deno.test(`${name} do not block the event loop`, async () => {
    using _ = clockOfLooks(5);
    const source = new Uint8Array(64 * 2 ** 20);
    const layout = sliceLayout({ name: "x", dtype: "U8", shape: [2 ** 25, 2] }, [null, 0]);
    const target = operations().allocate(layout.byteLength);
    assert(await turnsDuring(() => operations().gather(source, layout, target)) >= 3);
    const wide = operations().allocate(2 * source.byteLength);
    assert(await turnsDuring(() => operations().cast(source, "F16", wide, "F32")) >= 3);
    assert(await turnsDuring(() => operations().join([source, source], 2 ** 12, wide)) >= 3);
    const many = Array.from({ length: 64 }, () => new Uint8Array(512));
    assert(await turnsDuring(() => operations().join(many, 1, new Uint8Array(64 * 512))) >= 3);
  });
}

operationTests("Operations on the event loop", () => new LoopOperations());

suite("Operations of the shim", "native", await useNativeEngine(), () => {
  operationTests("Operations of the shim", () => native);

  Deno.test("Operations of the shim give the event loop turns between many short copies", async () => {
    using _ = clockOfLooks(5); // each copy takes two looks
    const source = new Uint8Array(2 ** 17);
    const target = new Uint8Array(2 ** 17);
    const runs = { offset: 0, run: 2 ** 16, levels: [{ count: 2, stride: 2 ** 16 }] };
    const copies = () =>
      Array.from({ length: 20 }, () => [
        native.gather(source, runs, target),
        native.cast(source, "U8", target, "U8"),
        native.join([source.subarray(0, 2 ** 16), source.subarray(2 ** 16)], 2, target),
      ]).flat();
    assert(await turnsDuring(() => Promise.all(copies())) >= 20);
  });
});
const { shim } = await openLibrary();
const native = shim ? new NativeOperations(shim) : new LoopOperations();

Deno.test("readStrided() gives the event loop turns although every read ends in the same turn", async () => {
  using _ = clockOfLooks(3);
  const run = 2 ** 18;
  const copy = denseCopy({ offset: 0, run, levels: [{ count: 16, stride: 2 * run }] });
  const file = { read: () => Promise.resolve() };
  const reads = stridedReads(copy, Infinity, 0, run);
  const target = new Uint8Array(copy.byteLength);
  assert(await turnsDuring(() => readStrided(file, reads, target)) >= 3);
});
