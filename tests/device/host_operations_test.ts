/**
 * Slices, casts and joins in host memory, of sizes that need several calls or turns, compared with one element at a
 * time.
 */
import { assert, assertEquals } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { cutSlice, sliceLayout } from "../../src/format/slices.ts";
import { type HostOperations, LoopOperations } from "../../src/load/host_operations.ts";
import { NativeOperations } from "../../src/load/native/native_operations.ts";
import { useNativeEngine } from "../support/engine.ts";
import { assertBytes, noise } from "../support/models.ts";
import { suite } from "../support/skip.ts";

/** Runs an action; returns the number of turns of the event loop meanwhile. */
async function turnsDuring(action: () => Promise<unknown>): Promise<number> {
  let turns = 0, running = true;
  const other = (async () => {
    while (running) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      turns++;
    }
  })();
  await action();
  const during = turns;
  running = false;
  await other;
  return during;
}

/** Each read of the clock advances it by so many milliseconds: tests do not depend on the machine's speed. */
function clockOfLooks(milliseconds: number): Disposable {
  const { now } = performance;
  let time = performance.now();
  performance.now = () => time += milliseconds;
  return { [Symbol.dispose]: () => void (performance.now = now) };
}

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
    for (const rows of [1, 3, 5000]) {
      const sources = [7, 0, 200].map((width, seed) => noise(rows * width, seed));
      const target = operations().allocate(rows * 207);
      await operations().join(sources, rows, target);
      const expected = new Uint8Array(rows * 207);
      for (let row = 0; row < rows; row++) {
        expected.set(sources[0]!.subarray(row * 7, row * 7 + 7), row * 207);
        expected.set(sources[2]!.subarray(row * 200, row * 200 + 200), row * 207 + 7);
      }
      assertBytes(target, expected, `${rows} rows`);
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
  });
}

operationTests("Operations on the event loop", () => new LoopOperations());

suite("Operations of the shim", "native", await useNativeEngine(), () => {
  operationTests("Operations of the shim", () => native);
});
const { shim } = await openLibrary();
const native = shim ? new NativeOperations(shim) : new LoopOperations();

Deno.test("cutSlice() cuts a slice into parts that fill it in order", () => {
  const layout = sliceLayout({ name: "x", dtype: "U8", shape: [5, 6, 40] }, [[0, 5, 2], [1, 5], [0, 30]]);
  for (const bytes of [1, 7, 30, 31, 100, 120, 1000]) {
    const offsets: number[] = [];
    for (const { byteLength, offset, run, levels } of cutSlice(layout, bytes)) {
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
