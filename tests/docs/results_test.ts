/**
 * The figures in the documentation against those that were measured, in bench/results.
 */
import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { compareLoads, compareRanks, compareSaves, compareWebGpu } from "../../bench/report/comparisons.ts";
import { differences, makeCharts, makePages } from "../../bench/report/documents.ts";
import { replaceBlock } from "../../bench/report/pages.ts";
import { comparisonTable, describeSource, scalingTable } from "../../bench/report/tables.ts";
import { AXES } from "../../bench/scaling/axes.ts";
import { loaderAndLimit, type ScalingReport } from "../../bench/scaling/report.ts";
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
  Deno.test("bench:scaling measures this loader and the limit along three axes", async () => {
    await using folder = await tempFolder();
    const out = `${folder.path}/scaling.json`;
    const { code, stdout, stderr } = await run("scaling.ts", "--quick", "--turns", "1", "--out", out);
    assertEquals(code, 0, stderr);
    assertEquals(stdout.trimEnd().split("\n").length, 1 + 3 * 2, stdout);
    const { axes } = JSON.parse(await Deno.readTextFile(out)) as ScalingReport;
    const values = AXES.map((axis) => axes[axis].map(({ value }) => value));
    assertEquals(values, [[2 ** 23, 2 ** 24], [10, 1000], [1, 2]]);
    const lanes = axes.threads.map((point) => loaderAndLimit(point).loader.ways);
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
