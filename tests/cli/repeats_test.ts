import { assertEquals } from "@std/assert";
import { describeRuns, medianOf } from "../../src/cli/repeats.ts";

/** Loads of 6 GB in these seconds. */
const runs = (...seconds: number[]) =>
  seconds.map((one, run) => ({ run, bytes: 6e9, seconds: one, gigabytesPerSecond: 6 / one }));

Deno.test("medianOf() returns the load in the middle; for an even number it has the mean of the middle two", () => {
  assertEquals(medianOf(runs(3)), { run: 0, bytes: 6e9, seconds: 3, gigabytesPerSecond: 2 });
  assertEquals(medianOf(runs(5, 1, 3)).seconds, 3);
  assertEquals(medianOf(runs(1, 15)), { run: 1, bytes: 6e9, seconds: 8, gigabytesPerSecond: 0.75 });
  assertEquals(medianOf(runs(4, 1, 3, 2)), { run: 2, bytes: 6e9, seconds: 2.5, gigabytesPerSecond: 2.4 });
  assertEquals(medianOf(runs(2, 2)).seconds, 2);
});

Deno.test("describeRuns() labels the median with the number of loads, the slowest and the fastest", () => {
  const of = (...seconds: number[]) => describeRuns(runs(...seconds), medianOf(runs(...seconds)));
  assertEquals(of(3), " in 3.000 s: 2.00 GB/s");
  assertEquals(of(2, 0.5), ", median of 2 loads: 1.250 s, 4.80 GB/s, from 3.00 GB/s to 12.0 GB/s");
  assertEquals(of(4, 1, 3), ", median of 3 loads: 3.000 s, 2.00 GB/s, from 1.50 GB/s to 6.00 GB/s");
});
