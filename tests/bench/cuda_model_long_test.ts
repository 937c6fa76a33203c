/**
 * The model of a GPU in the stand-in for CUDA: its timeline against counters and the order of things, not times.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { modelCharts } from "../../bench/cuda_model/charts.ts";
import { barsOf, evaluateLoad, formatModel, type ModelReport } from "../../bench/cuda_model/report.ts";
import { type Case, runCase } from "../../bench/cuda_model/run.ts";
import { modelSection } from "../../bench/cuda_model/section.ts";
import type { Operation, Timeline } from "../../bench/cuda_model/timeline.ts";
import { useStandIns } from "../../bench/gpu/stand_ins.ts";
import { compiler, missingCxx } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

/** Fails unless an engine does one thing at a time, in order. */
function assertInOrder(operations: readonly Operation[]): void {
  for (const [index, one] of operations.entries()) {
    assert(one.start <= one.end);
    if (index > 0) assert(operations[index - 1]!.end <= one.start, `operation ${index} begins too early`);
  }
}

/** Fails unless, when the last of `later` begins, as many bytes of `earlier` have ended, for each of `later`. */
function assertFollows(
  later: readonly Operation[],
  earlier: readonly Operation[],
  bytesOf: (one: Operation) => number,
): void {
  const ends = earlier.toSorted((a, b) => a.end - b.end);
  let needed = 0, ended = 0, next = 0;
  for (const one of later) {
    while (next < ends.length && ends[next]!.end <= one.start) ended += ends[next++]!.bytes;
    needed += bytesOf(one);
    assert(ended >= needed, `${needed} bytes are used when ${ended} are there`);
  }
}

const SMALL: Case = {
  name: "small",
  files: 2,
  tensors: 3,
  tensorBytes: 3_000_002,
  options: { gds: "off", dtype: "F32" },
  isDrawn: true,
};

suite("The model of a GPU", "native", (await compiler()).missing ?? missingCxx(), () => {
  Deno.test("a load's timeline has all bytes once, each read before it is copied and copied before it is cast", async () => {
    await using folder = await tempFolder();
    const work = folder.path;
    await useStandIns(work);
    const counters = `${work}/counters.json`;
    Deno.env.set("FST_SIM_REPORT", counters);
    const { result, timeline } = await runCase(`${work}/files`, SMALL, 1);
    Deno.env.delete("FST_SIM_REPORT");
    const bytes = 2 * 3 * 3_000_002;
    assertEquals([result.bytes, result.tensors, result.loads.length], [bytes, 6, 2]);
    for (const load of result.loads) {
      assertEquals(load.copiedBytes, bytes);
      assertEquals(load.kernels, load.copies);
    }

    const of = (engine: Operation["engine"]) => timeline.operations.filter((one) => one.engine === engine);
    const [reads, copies, kernels, driver] = [of("read"), of("to device"), of("compute"), of("driver")];
    assertEquals(reads.length, copies.length);
    assertEquals(sum(reads), 2 * bytes);
    assertEquals(sum(copies), 2 * bytes);
    assertEquals(sum(kernels), bytes, "elements of two bytes, of two loads");
    const { copied, counts } = JSON.parse(await Deno.readTextFile(counters));
    assertEquals([copied.h2d, counts.kernels], [2 * bytes, kernels.length]);
    for (const engine of [copies, kernels, driver]) assertInOrder(engine);
    assertFollows(copies, reads, (one) => one.bytes);
    assertFollows(kernels, copies, (one) => 2 * one.bytes);
  });
});

function sum(operations: readonly Operation[]): number {
  return operations.reduce((total, { bytes }) => total + bytes, 0);
}

/** A made-up run: allocate for 2 ms, pin for 1, then two lanes that read, one copy after the other, and a cast. */
const MADE_UP: Timeline = {
  readRate: 10,
  copyRate: 20,
  operations: [
    { engine: "driver", thread: 1, start: 1e6, end: 3e6, bytes: 40e6, call: "cudaMalloc" },
    { engine: "driver", thread: 1, start: 3e6, end: 4e6, bytes: 1e6, call: "cudaHostRegister" },
    { engine: "read", thread: 7, start: 4e6, end: 6e6, bytes: 20e6, call: "read" },
    { engine: "read", thread: 9, start: 4e6, end: 8e6, bytes: 20e6, call: "read" },
    { engine: "to device", thread: 3, start: 6e6, end: 7e6, bytes: 20e6, call: "copy" },
    { engine: "to device", thread: 4, start: 8e6, end: 9e6, bytes: 20e6, call: "copy" },
    { engine: "compute", thread: 4, start: 9e6, end: 9.5e6, bytes: 10e6, call: "kernel" },
    { engine: "to device", thread: 4, start: 50e6, end: 51e6, bytes: 20e6, call: "copy" }, // of another load
  ],
};

Deno.test("evaluateLoad() compares with the slower one of read and copy", () => {
  assertEquals(evaluateLoad(MADE_UP, 40e6, { start: 1e6, end: 11e6 }), {
    milliseconds: 10,
    ofLimit: 0.4,
    firstRead: 3,
    allocating: 2,
    pinning: 1,
    copies: 2,
    copiedBytes: 40e6,
    kernels: 1,
  });
});

Deno.test("barsOf() has a row for the driver, each lane, the copies and the kernels", () => {
  assertEquals(barsOf(MADE_UP, { start: 1e6, end: 11e6 }), [
    { row: "driver", kind: "allocate", start: 0, end: 2 },
    { row: "driver", kind: "pin", start: 2, end: 3 },
    { row: "lane 1", kind: "read", start: 3, end: 5 },
    { row: "lane 2", kind: "read", start: 3, end: 7 },
    { row: "to the device", kind: "copy", start: 5, end: 6 },
    { row: "to the device", kind: "copy", start: 7, end: 8 },
    { row: "kernels", kind: "cast", start: 8, end: 8.5 },
  ]);
});

Deno.test("wherever the model's figures are shown, it is called a model", () => {
  const load = { start: 1e6, end: 11e6 };
  const report: ModelReport = {
    made: "2026-05-04T03:02:01.000Z",
    machine: {},
    turns: 1,
    readRate: 10,
    copyRate: 20,
    cases: [{
      name: "large tensors",
      bytes: 40e6,
      tensors: 4,
      loads: [evaluateLoad(MADE_UP, 40e6, load), evaluateLoad(MADE_UP, 40e6, load)],
      bars: [barsOf(MADE_UP, load), barsOf(MADE_UP, load)],
    }],
  };
  const section = modelSection(report).join("\n");
  assertStringIncludes(section, "### A model of a GPU, not a measurement");
  assertStringIncludes(
    section,
    "| large tensors: 40.0 MB in 4 tensors, second load | 10 ms | 0.40 | ≥ 0.95 |",
  );
  assertStringIncludes(formatModel(report), "large tensors, second load");
  const charts = modelCharts(report);
  assertEquals(charts.map(({ name }) => name), ["cuda_model", "cuda_model_dark"]);
  for (const { spec } of charts) {
    assertStringIncludes(JSON.stringify(spec), "A model of a GPU: large tensors");
  }
});
