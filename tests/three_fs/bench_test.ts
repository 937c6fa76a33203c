/**
 * The storage benchmark: its combinations, its output, and a short run.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { summarize, toCsv } from "../../bench/storage/report.ts";
import type { Sample } from "../../bench/storage/run.ts";
import { combinations, share, single } from "../../bench/storage/sweep.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { exists, suite } from "../support/skip.ts";

const SETTINGS = {
  backend: ["usrbio", "posix"],
  bufferBytes: [8, 64],
  chunkBytes: [8, 32],
  processes: [1, 2],
  pipelined: [false, true],
} as const;

Deno.test("combinations() leaves out chunks larger than the buffer", () => {
  const all = combinations(SETTINGS);
  // For each backend and number of processes: 8 in 8, 8 and 32 in 64, and pipelined 8 and 32 in half of 64.
  assertEquals(all.length, 2 * 2 * (1 + 2 + 2));
  assert(
    all.every(({ bufferBytes, chunkBytes, pipelined }) => chunkBytes <= bufferBytes / (pipelined ? 2 : 1)),
  );
  assertEquals(combinations(single(SETTINGS)), [
    { backend: "usrbio", bufferBytes: 8, chunkBytes: 8, processes: 1, pipelined: false },
  ]);
});

Deno.test("share() assigns every byte once", () => {
  const files = [["a", 10], ["b", 0], ["c", 1], ["d", 100]] as const;
  const ranges = files.map(([path, length]) => ({ path, offset: 0, length }));
  for (let processes = 1; processes < 9; processes++) {
    const shares = share(ranges, processes);
    assertEquals(shares.length, processes);
    const read = new Map<string, number[]>();
    for (const { path, offset, length } of shares.flat()) {
      const bytes = read.get(path) ?? [];
      for (let at = offset; at < offset + length; at++) bytes.push(at);
      read.set(path, bytes);
    }
    for (const [path, length] of files) {
      assertEquals(read.get(path) ?? [], Array.from({ length }, (_, at) => at));
    }
    const sizes = shares.map((part) => part.reduce((sum, { length }) => sum + length, 0));
    assert(Math.max(...sizes) - Math.min(...sizes) <= 1, `${sizes}`);
  }
});

Deno.test("summarize() computes the median of each combination, toCsv() writes it", () => {
  const base = {
    backend: "posix",
    bufferBytes: 1,
    chunkBytes: 1,
    processes: 1,
    bytes: 1,
    seconds: 1,
  } as const;
  const samples = [3, 1, 2].map((rate, index): Sample => {
    return { ...base, pipelined: false, iteration: index + 1, gigabytesPerSecond: rate };
  });
  const [summary, ...others] = summarize(samples);
  assertEquals(others, []);
  assertEquals([summary!.iterations, summary!.median, summary!.least, summary!.most], [3, 2, 1, 3]);
  assertEquals(toCsv([{ a: 1, b: 'say "x", or y' }, { a: 2, b: "" }]), 'a,b\n1,"say ""x"", or y"\n2,\n');
  assertEquals(toCsv([]), "\n");
});

const { missing } = await compiler();

suite("The storage benchmark", "native", missing, () => {
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL("../../bench/storage.ts", import.meta.url).pathname, ...args],
      env: { NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  };

  Deno.test("bench:storage sweeps with real processes and writes its results", async () => {
    await using folder = await tempFolder();
    const out = `${folder.path}/out`;
    const { code, stdout, stderr } = await run(
      ...["--stand-in", "--bytes", "4MB", "--iterations", "2", "--buffers", "2MiB", "--chunks", "256KiB"],
      ...["--processes", "1,2", "--pipelined", "yes", "--output-dir", out],
    );
    assertEquals(code, 0, stderr);
    assertEquals(stdout.trimEnd().split("\n").length, 1 + 2 * 2, stdout);
    const report = JSON.parse(await Deno.readTextFile(`${out}/report.json`));
    assertStringIncludes(report.label, "stand-in");
    assertEquals(
      report.summaries.map((summary: { backend: string; processes: number; iterations: number }) => [
        summary.backend,
        summary.processes,
        summary.iterations,
      ]),
      [["usrbio", 1, 2], ["usrbio", 2, 2], ["posix", 1, 2], ["posix", 2, 2]],
    );
    const samples = (await Deno.readTextFile(`${out}/samples.csv`)).trimEnd().split("\n");
    assertEquals(samples.length, 1 + 4 * 2);
    assertEquals(
      new Set(samples.slice(1).map((line) => line.split(",")[6])).size,
      1,
      "all turns read all bytes",
    );
    if (!stderr.includes("no charts")) assert(exists(`${out}/rate_by_chunk.svg`));
  });

  Deno.test("bench:storage compares whole loads, and rejects invalid options", async () => {
    const loads = await run("--mode", "loads", "--stand-in", "--bytes", "4MB", "--iterations", "1");
    assertEquals(loads.code, 0, loads.stderr);
    assertStringIncludes(loads.stdout, "of ordinary reads");
    assertStringIncludes(loads.stdout, "3fs, ");
    const overlap = await run(
      ...["--mode", "overlap", "--stand-in", "--device", "cuda", "--bytes", "4MB", "--iterations", "1"],
      ...["--buffers", "2MiB", "--chunks", "256KiB"],
    );
    assertEquals(overlap.code, 0, overlap.stderr);
    assertEquals(overlap.stdout.trimEnd().split("\n").length, 3, overlap.stdout);
    assertStringIncludes(overlap.stdout, "pipelined");
    for (
      const args of [
        ["--mode", "fast"],
        ["--mode", "overlap"],
        ["--backends", "cpp"],
        ["--pipelined", "maybe"],
        ["--download-only", "--device", "cuda"],
        ["--buffers", "1MiB", "--chunks", "8MiB"],
      ]
    ) {
      const { code, stderr } = await run(...args, "--bytes", "1MB");
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, "Usage: deno task bench:storage");
    }
    assertEquals((await run("/nowhere")).code, 1);
  });
});
