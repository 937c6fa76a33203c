/**
 * The figures in the documentation against those that were measured, in bench/results.
 */
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { compareLoads, compareRanks, compareSaves, compareWebGpu } from "../../bench/report/comparisons.ts";
import { differences, makeCharts, makePages } from "../../bench/report/documents.ts";
import { replaceBlock } from "../../bench/report/pages.ts";
import { comparisonTable, describeSource, scalingTable } from "../../bench/report/tables.ts";
import { AXES } from "../../bench/scaling/axes.ts";
import { formatScaling, loaderAndLimit, type ScalingReport } from "../../bench/scaling/report.ts";
import type { Contender } from "../../bench/side_by_side/contenders.ts";
import { evaluate, formatResults } from "../../bench/side_by_side/report.ts";
import { PACKAGES } from "../../bench/vega.ts";
import { evenTensors } from "../../bench/headers.ts";
import { deserialize } from "../../mod.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { whyNotNpm } from "../support/npm.ts";
import { suite } from "../support/skip.ts";
import { ROOT } from "./pages.ts";

const SOURCE = {
  made: "2026-05-04T03:02:01.000Z",
  machine: { processor: "Abacus 1", cores: 2, memory: 8e9, kernel: "6.1.0-x" },
  turns: 5,
};

/** A result of the side-by-side. */
function result(name: string, isLimit: boolean, gigabytesPerSecond: number, ofLimit: number) {
  const rest = {
    seconds: [],
    median: 8 / gigabytesPerSecond,
    beyondDestination: null,
    stall: null,
    ways: [],
  };
  return { name, isLimit, gigabytesPerSecond, ofLimit, ...rest };
}

Deno.test("the figures in README.md and docs/benchmarks.md are those in bench/results", async () => {
  const pages = await makePages(ROOT);
  assertEquals([...pages.keys()], ["README.md", "docs/benchmarks.md"]);
  assertStringIncludes(pages.get("README.md")!, "**this loader**");
  assertEquals(
    pages.get("README.md")!.match(/<picture>/g)?.length,
    1,
    "one chart in README.md, the others in docs/",
  );
  assertEquals(await differences(ROOT, pages), [], "run deno task bench:report");
});

const missing = await whyNotNpm(PACKAGES.vega) ?? await whyNotNpm(PACKAGES.vegaLite);

suite("charts", "npm", missing, () => {
  Deno.test("the charts are those that bench/results gives", async () => {
    const charts = await makeCharts(ROOT);
    assertEquals(
      charts.has("docs/charts/side_by_side.svg") && charts.has("docs/charts/side_by_side_dark.svg"),
      true,
    );
    assertEquals(await differences(ROOT, charts), [], "run deno task bench:report");
  });
});

Deno.test("differences() finds a page with another figure, and a page that is not there", async () => {
  await using folder = await tempFolder();
  const root = `${folder.path}/`;
  await Deno.writeTextFile(`${root}same.md`, "4.52\n");
  await Deno.writeTextFile(`${root}other.md`, "4.53\n");
  const documents = new Map([["same.md", "4.52\n"], ["other.md", "4.52\n"], ["missing.md", "4.52\n"]]);
  assertEquals(await differences(root, documents), ["other.md", "missing.md"]);
});

Deno.test("makePages() puts the figures of the JSON between the markers, and nothing else changes", async () => {
  await using folder = await tempFolder();
  const root = `${folder.path}/`;
  await Deno.mkdir(`${root}bench/results`, { recursive: true });
  await Deno.mkdir(`${root}docs`);
  const report = {
    ...SOURCE,
    data: { files: 2, bytes: 8e9 },
    results: { hot: [result("this loader", false, 4, 1)] },
  };
  await Deno.writeTextFile(`${root}bench/results/side_by_side.json`, JSON.stringify(report));
  const page = "# Title\n\n<!-- results:begin -->\n\nold\n\n<!-- results:end -->\n\nend\n";
  await Deno.writeTextFile(`${root}README.md`, page);
  await Deno.writeTextFile(`${root}docs/benchmarks.md`, page);
  const readme = (await makePages(root)).get("README.md")!;
  assertEquals([readme.startsWith("# Title\n\n<!-- results:begin -->\n\n"), readme.endsWith("end\n")], [
    true,
    true,
  ]);
  assertStringIncludes(readme, "| **this loader** |                    4.00 |     1.00 |");
  assertEquals(readme.includes("old"), false);
  await Deno.writeTextFile(`${root}README.md`, "no markers");
  await assertRejects(() => makePages(root), Error, `needs a line "<!-- results:begin -->"`);
});

Deno.test("makePages() shows the results of a GPU day, and its loads in README.md too", async () => {
  await using folder = await tempFolder();
  const root = `${folder.path}/`;
  await Deno.mkdir(`${root}bench/results`, { recursive: true });
  await Deno.mkdir(`${root}docs`);
  const loads = {
    ...SOURCE,
    gpu: { name: "Abacus GPU" },
    data: { files: 2, bytes: 8e9 },
    results: { hot: [{ ...result("this loader", false, 4, 0.8), limit: null, firstTensor: null }] },
  };
  const step = { status: "passed", reason: null, seconds: 7, limitSeconds: 9 };
  const day = {
    ...SOURCE,
    isRehearsal: false,
    limitSeconds: 480,
    seconds: 300,
    steps: [{ ...step, name: "bench", title: "Loads", figures: loads }],
  };
  await Deno.writeTextFile(`${root}bench/results/gpu_day.json`, JSON.stringify(day));
  const page = "<!-- results:begin -->\n<!-- results:end -->\n";
  await Deno.writeTextFile(`${root}README.md`, page);
  await Deno.writeTextFile(`${root}docs/benchmarks.md`, page);
  const pages = await makePages(root);
  assertStringIncludes(
    pages.get("README.md")!,
    "Loading 8.00 GB in 2 files to a GPU: Abacus GPU: in the page cache up to 4.00 GB/s",
  );
  const benchmarks = pages.get("docs/benchmarks.md")!;
  assertStringIncludes(benchmarks, "### Loading 8.00 GB in 2 files to a GPU: Abacus GPU");
  assertStringIncludes(benchmarks, "1 of 1 step passed, in 300 seconds.");
  assertStringIncludes(benchmarks, "| Loads | passed |     7.0 |");
});

Deno.test("replaceBlock() refuses markers in the wrong order", () => {
  assertThrows(() => replaceBlock("<!-- results:end --><!-- results:begin -->", ""), Error, "Cannot place");
});

Deno.test("a table of loads shows the best variant of the limit, and every contender in both states of the cache", () => {
  const comparison = compareLoads({
    ...SOURCE,
    data: { files: 4, bytes: 8e9 },
    results: {
      hot: [
        result("limit: 1 thread", true, 5, 0.5),
        result("limit: 2 threads", true, 10, 1),
        result("this loader", false, 9, 0.9),
        result("readFile", false, 2.345, 0.2345),
      ],
      cold: [result("limit: 1 thread", true, 2, 1), result("this loader", false, 1.9, 0.95)],
    },
  });
  assertEquals(comparison.title, "Loading 8.00 GB in 4 files to the CPU");
  assertEquals(comparisonTable(comparison).split("\n"), [
    "|  | In the page cache: GB/s | of limit | Not in the page cache: GB/s | of limit |",
    "| --- | --: | --: | --: | --: |",
    "| the machine's limit | 10.00 | 1.00 | 2.00 | 1.00 |",
    "| **this loader** | 9.00 | 0.90 | 1.90 | 0.95 |",
    "| readFile | 2.35 | 0.23 |  |  |",
  ]);
  assertEquals(
    describeSource(comparison.source),
    "2026-05-04, Abacus 1, 2 cores, 8.00 GB of memory, Linux 6.1; medians of 5 turns",
  );
});

/** A contender that does not run. */
function contender(name: string, isLimit: boolean, more: Partial<Contender> = {}): Contender {
  return { name, isLimit, kinds: ["hot"], files: [], run: () => Promise.reject(new Error(name)), ...more };
}

/** Samples of these seconds. */
function samples(...seconds: number[]) {
  return seconds.map((those) => ({ seconds: those }));
}

Deno.test("a ratio is the median of the turns' ratios to the best limit of the same task", () => {
  const results = evaluate(
    new Map([
      [contender("limit: 1 thread", true), samples(8, 8, 8)],
      [contender("limit: 2 threads", true), samples(1, 2, 6)], // 6 s in a slow turn, in which 8 s are no better
      [contender("this loader", false), samples(2, 2.5, 8)],
      [contender("limit of the cast", true, { task: "cast" }), samples(3, 4, 6)],
      [contender("this loader, cast", false, { task: "cast" }), samples(4, 4, 12)],
      [contender("this loader, columns", false, { task: "columns", bytes: 1e9 }), samples(1, 2, 4)],
    ]),
    4e9,
  );
  assertEquals(
    results.map((
      { task, gigabytesPerSecond, ofLimit, spread },
    ) => [task, gigabytesPerSecond, ofLimit, spread]),
    [
      ["read", 0.5, 0.25, [0.125, 0.75]],
      ["read", 2, 1, [1, 1]],
      ["read", 1.6, 0.75, [0.5, 0.8]], // 0.5, 0.8, 0.75; the medians would give 0.8
      ["cast", 1, 1, [1, 1]],
      ["cast", 1, 0.75, [0.5, 1]], // 0.75, 1, 0.5; the medians would give 1
      ["columns", 0.5, null, null], // without a probe
    ],
  );
  const lines = formatResults(results).split("\n").map((line) => line.trim().split(/ {2,}/));
  assertEquals(lines.map(([name, , , ratio]) => [name, ratio]), [
    ["GB/s", "memory beyond"],
    ["limit: 2 threads", "1.00"],
    ["this loader", "0.75 (0.50–0.80)"],
    ["limit of the cast", "1.00"],
    ["this loader, cast", "0.75 (0.50–1.00)"],
    ["this loader, columns", undefined],
  ]);
});

Deno.test("a table of loads shows casts and columns below limits of their own, with the spread of the ratios", () => {
  const cast = { task: "cast" } as const, columns = { task: "columns" } as const;
  const comparison = compareLoads({
    ...SOURCE,
    data: { files: 4, bytes: 8e9 },
    results: {
      hot: [
        { ...result("limit: 2 threads", true, 10, 1), spread: [1, 1] },
        { ...result("this loader", false, 9, 0.9), spread: [0.85, 0.95] },
        { ...result("limit of the cast: 2 threads", true, 4, 0.8), ...cast, spread: [0.7, 0.9] },
        { ...result("limit of the cast: 4 threads", true, 5, 1), ...cast, spread: [1, 1] },
        { ...result("this loader, cast", false, 4.5, 0.9), ...cast, spread: [0.875, 0.925] },
        { ...result("limit of columns: rows", true, 20, 1), ...columns, spread: [1, 1] },
        { ...result("this loader, columns", false, 10, 0.5), ...columns, spread: [0.25, 0.75] },
      ],
      cold: [result("limit: 1 thread", true, 2, 1), result("this loader, cast", false, 1.9, 0.95)],
    },
  });
  assertStringIncludes(comparison.note, "A ratio compares times of the same turn");
  assertEquals(comparisonTable(comparison).split("\n").slice(2), [
    "| the machine's limit | 10.00 | 1.00 | 2.00 | 1.00 |",
    "| **this loader** | 9.00 | 0.90 (0.85–0.95) |  |  |",
    "| limit of the cast | 5.00 | 1.00 |  |  |",
    "| **this loader, cast** | 4.50 | 0.90 (0.88–0.93) | 1.90 | 0.95 |",
    "| limit of the columns | 20.00 | 1.00 |  |  |",
    "| **this loader, columns** | 10.00 | 0.50 (0.25–0.75) |  |  |",
  ]);
});

Deno.test("tables of saves, ranks and WebGPU name this package and compare it as their benchmarks do", () => {
  const saves = compareSaves({
    ...SOURCE,
    bytes: 4e9,
    results: {
      synced: [
        { name: "limit: buffered", role: "limit", gigabytesPerSecond: 2, ofLimit: 1 },
        { name: "this saver", role: "this", gigabytesPerSecond: 1.5, ofLimit: 0.75 },
        { name: "safetensors", role: "reference", gigabytesPerSecond: 1, ofLimit: 0.5 },
      ],
    },
  });
  assertEquals(comparisonTable(saves).split("\n").slice(2), [
    "| the machine's limit | 2.00 | 1.00 |",
    "| **this saver** | 1.50 | 0.75 |",
    "| safetensors | 1.00 | 0.50 |",
  ]);
  const ranks = compareRanks({
    ...SOURCE,
    bytes: 1e9,
    results: [
      { name: "MPI_Bcast in C", gigabytesPerSecond: 2, ratio: null },
      { name: "broadcast the model", gigabytesPerSecond: 1.8, ratio: 0.9 },
    ],
  });
  assertEquals(comparisonTable(ranks).split("\n").slice(2), [
    "| MPI_Bcast in C | 2.00 |  |",
    "| **broadcast the model** | 1.80 | 0.90 |",
  ]);
  const webgpu = compareWebGpu({
    ...SOURCE,
    adapter: { name: "pipe", isSoftware: true },
    results: [
      { name: "naive", gigabytesPerSecond: 1, ofNaive: 1 },
      { name: "this loader", gigabytesPerSecond: 4, ofNaive: 4 },
    ],
  });
  assertEquals(webgpu.title, "Loading to WebGPU: pipe, in software");
  assertEquals(comparisonTable(webgpu).split("\n").slice(2), [
    "| naive | 1.00 | 1.00 |",
    "| **this loader** | 4.00 | 4.00 |",
  ]);
});

Deno.test("a table of scaling shows each point beside the best of its limits", () => {
  const point = (value: number) => ({
    value,
    bytes: 8e9,
    results: [
      result("limit: 2 threads", true, 10, 1),
      result("limit: 8 threads", true, 8, 0.8),
      result("this loader", false, 5, 0.5),
    ],
  });
  const axes = { bytes: [point(2 ** 26)], tensors: [point(10_000)], threads: [point(1), point(8)] };
  assertEquals(scalingTable({ ...SOURCE, axes }).split("\n").slice(2), [
    "| 64 MiB | 5.00 | 10.00 | 0.50 |",
    "| 10,000 tensors | 5.00 | 10.00 | 0.50 |",
    "| 1 lane | 5.00 | 10.00 | 0.50 |",
    "| 8 lanes | 5.00 | 10.00 | 0.50 |",
  ]);
  const casts = {
    value: 2 ** 28,
    bytes: 2 ** 28,
    results: [
      { ...result("limit of the cast", true, 4, 1), task: "cast", spread: [1, 1] },
      { ...result("this loader", false, 3, 0.75), task: "cast", spread: [0.7, 0.8] },
    ],
  } as const;
  const columns = {
    value: 4,
    bytes: 8e9,
    results: [
      { ...result("limit of columns", true, 4, 1), task: "columns", spread: [1, 1] },
      { ...result("this loader", false, 2, 0.5), task: "columns", spread: [0.5, 0.625] },
    ],
  } as const;
  const more = { cast: [casts], columns: [columns] };
  assertEquals(scalingTable({ ...SOURCE, axes: more }).split("\n").slice(2), [
    "| 256 MiB, BF16 cast to F32 | 3.00 | 4.00 | 0.75 (0.70–0.80) |",
    "| 1/4 of the columns | 2.00 | 4.00 | 0.50 (0.50–0.63) |",
  ]);
  assertEquals(formatScaling(more).split("\n").slice(1).map((line) => line.trim().split(/ {2,}/)), [
    ["cast", "256 MiB", "3.00", "4.00", "0.75 (0.70–0.80)"],
    ["columns", "4", "2.00", "4.00", "0.50 (0.50–0.63)"],
  ]);
  const without = { ...point(1), results: [] };
  const empty = { ...SOURCE, axes: { bytes: [without], tensors: [], threads: [] } };
  assertThrows(() => scalingTable(empty), Error, "measure again");
});

Deno.test("bench:report --check agrees with bench/results, and wrong usage ends with 2", async () => {
  const right = await run("report.ts", "--check");
  assertEquals([right.code, right.stdout], [0, ""], right.stderr);
  assertEquals((await run("report.ts", "results.json")).code, 2);
});

const { missing: noCompiler } = await compiler();

suite("bench:scaling", "native", noCompiler, () => {
  Deno.test("bench:scaling measures this loader and the limits of reads, casts and columns along five axes", async () => {
    await using folder = await tempFolder();
    const out = `${folder.path}/scaling.json`;
    const { code, stdout, stderr } = await run("scaling.ts", "--quick", "--turns", "1", "--out", out);
    assertEquals(code, 0, stderr);
    assertEquals(stdout.trimEnd().split("\n").length, 1 + 5 * 2, stdout);
    const { axes } = JSON.parse(await Deno.readTextFile(out)) as ScalingReport;
    const values = AXES.map((axis) => axes[axis]!.map(({ value }) => value));
    assertEquals(values, [[2 ** 23, 2 ** 24], [10, 1000], [1, 2], [2 ** 23, 2 ** 24], [2, 4]]);
    for (const axis of AXES) {
      for (const { loader, limit } of axes[axis]!.map(loaderAndLimit)) {
        assertEquals([limit.task, limit.spread, loader.spread!.length], [loader.task, [1, 1], 2], axis);
      }
    }
    const lanes = axes.threads!.map((point) => loaderAndLimit(point).loader.ways);
    assertEquals(lanes, [["buffered, 1 lane"], ["buffered, 2 lanes"]]);
  });
});

/** A program of bench/ in a process of its own. */
async function run(program: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${ROOT}bench/${program}`, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test("evenTensors() makes a header with so many tensors that fill so many bytes", () => {
  const { head, dataLength } = evenTensors(3, 1000);
  const file = new Uint8Array(head.byteLength + dataLength);
  file.set(head);
  const sizes = [...deserialize(file).values()].map(({ byteLength }) => byteLength);
  assertEquals(sizes, [332, 332, 336]);
});
