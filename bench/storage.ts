/**
 * How fast files are read from where they are, and what the size of buffers and requests, the number of processes and
 * pipelining do to it: on 3FS, or in any folder.
 */
import { getBackend, getHf3fsLibPath } from "../mod.ts";
import { type Arguments, parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount, formatRate } from "../src/cli/text.ts";
import { BACKENDS } from "../src/usrbio/backend.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { drawCharts } from "./storage/charts.ts";
import { filesIn, makeFiles, useStandIn } from "./storage/data.ts";
import { compareLoads, formatLoads } from "./storage/loads.ts";
import { formatBinary, formatSummaries, type Report, summarize, toCsv } from "./storage/report.ts";
import { runCombination, type Sample } from "./storage/run.ts";
import {
  type Combination,
  combinations,
  type Range,
  type Settings,
  single,
  type Target,
} from "./storage/sweep.ts";

const USAGE = `Usage: deno task bench:storage [folder] [options]

Reads all safetensors files of a folder with every combination of the settings, each by processes that share the files,
and tells how fast. Without a folder it makes files in a temporary one. Every turn but the first counts; what the page
cache holds it keeps.

  --mode M          grid: every combination (default); single: the first value of each setting; loads: whole loads
                    through 3FS and by ordinary reads, in turns, instead of a sweep
  --backends LIST   usrbio, posix, mock (default: usrbio and posix where 3FS' library is there, else posix)
  --buffers LIST    buffer of each process (default 16MiB,64MiB)
  --chunks LIST     bytes of one request (default 512KiB,2MiB,8MiB)
  --processes LIST  processes that read at once (default 1,2,4)
  --pipelined WORD  yes, no or both: whether one half of the buffer is read to while the other is copied (default both)
  --download-only   leave the bytes in the buffer
  --device D        copy them to a device such as cuda:0 (default: to host memory)
  --iterations N    turns that count (default 3)
  --bytes N         size of the files to make (default 1GiB)
  --output-dir D    write samples.csv, summary.csv, report.json and charts as SVG there
  --label TEXT      what to write over the charts
  --stand-in        rehearse on the stand-in for 3FS of tests/sim/3fs: says nothing about 3FS
  --help            print this`;

const STAND_IN_LABEL =
  "On the stand-in for 3FS: threads that read an ordinary folder\nIt says nothing about 3FS";

/** The values of an option that takes a list with commas. */
function listOf<T>(args: Arguments, name: string, byDefault: string, read: (text: string) => T): T[] {
  return (args.text(name) ?? byDefault).split(",").map((text) => read(text.trim()));
}

/** A number of bytes, as the command line writes it. */
function bytesOf(name: string): (text: string) => number {
  return (text) => parseArguments([`--${name}=${text}`], { [name]: "text" }).bytes(name)!;
}

function countOf(name: string): (text: string) => number {
  return (text) => parseArguments([`--${name}=${text}`], { [name]: "text" }).count(name)!;
}

function settingsOf(args: Arguments, backends: string): Settings {
  const pipelined = args.text("pipelined") ?? "both";
  if (!["yes", "no", "both"].includes(pipelined)) {
    throw new UsageError(`--pipelined must be yes, no or both, got "${pipelined}"`);
  }
  return {
    backend: listOf(args, "backends", backends, (text) => {
      const backend = BACKENDS.find((known) => known === text && known !== "auto");
      if (backend === undefined || backend === "auto") throw new UsageError(`There is no backend "${text}"`);
      return backend;
    }),
    bufferBytes: listOf(args, "buffers", "16MiB,64MiB", bytesOf("buffers")),
    chunkBytes: listOf(args, "chunks", "512KiB,2MiB,8MiB", bytesOf("chunks")),
    processes: listOf(args, "processes", "1,2,4", countOf("processes")),
    pipelined: pipelined === "both" ? [false, true] : [pipelined === "yes"],
  };
}

function targetOf(args: Arguments): Target {
  const device = args.text("device");
  if (device === undefined) return args.flag("download-only") ? "none" : "host";
  if (args.flag("download-only")) throw new UsageError("--download-only and --device contradict one another");
  const index = /^cuda(?::(\d+))?$/.exec(device)?.[1] ?? (device === "cuda" ? "0" : undefined);
  if (index === undefined) throw new UsageError(`There is no device "${device}": name one such as cuda:0`);
  return `cuda:${Number(index)}`;
}

/** What is to be run, where 3FS' library is there or not. */
function runsOf(args: Arguments, library: string | null): Combination[] {
  const all = settingsOf(args, library === null ? "posix" : "usrbio,posix");
  const runs = combinations(args.text("mode") === "single" ? single(all) : all);
  if (runs.length > 0) return runs;
  throw new UsageError("No chunk fits any buffer, or the half of it that pipelining leaves");
}

async function sweep(args: Arguments, files: readonly Range[], library: string | null): Promise<void> {
  const runs = runsOf(args, library);
  const target = targetOf(args);
  const samples: Sample[] = [];
  for (const [index, run] of runs.entries()) {
    const turns = await runCombination(run, files, target, args.count("iterations") ?? 3);
    samples.push(...turns);
    const { backend, bufferBytes, chunkBytes, processes, pipelined } = run;
    const rates = turns.map(({ gigabytesPerSecond }) => formatRate(gigabytesPerSecond)).join(", ");
    console.error(
      `${index + 1} of ${runs.length}: ${backend}, ${formatBinary(bufferBytes)}, ${
        formatBinary(chunkBytes)
      }, ` +
        `${formatCount(processes, "process").replace("processs", "processes")}${
          pipelined ? ", pipelined" : ""
        }: ${rates}`,
    );
  }
  const report: Report = {
    made: new Date().toISOString(),
    label: args.text("label") ?? (args.flag("stand-in") ? STAND_IN_LABEL : ""),
    machine: await describeMachine(),
    library: args.flag("stand-in") ? "tests/sim/3fs" : library,
    target,
    data: { files: files.length, bytes: files.reduce((sum, { length }) => sum + length, 0) },
    summaries: summarize(samples),
    samples,
  };
  console.log(formatSummaries(report.summaries));
  const folder = args.text("output-dir");
  if (folder !== undefined) await write(folder, report);
}

async function write(folder: string, report: Report): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const { samples, ...rest } = report;
  await Deno.writeTextFile(`${folder}/samples.csv`, toCsv(samples.map((sample) => ({ ...sample }))));
  await Deno.writeTextFile(
    `${folder}/summary.csv`,
    toCsv(report.summaries.map((summary) => ({ ...summary }))),
  );
  await Deno.writeTextFile(`${folder}/report.json`, `${JSON.stringify(rest, null, 2)}\n`);
  try {
    for (const { name, svg } of await drawCharts(report)) {
      await Deno.writeTextFile(`${folder}/${name}.svg`, svg);
    }
  } catch (error) {
    console.error(`warning: no charts, Vega cannot be loaded: ${(error as Error).message}`);
  }
}

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    mode: "text",
    backends: "text",
    buffers: "text",
    chunks: "text",
    processes: "text",
    pipelined: "text",
    "download-only": "flag",
    device: "text",
    iterations: "text",
    bytes: "text",
    "output-dir": "text",
    label: "text",
    "stand-in": "flag",
  });
  if (args.flag("help")) return console.log(USAGE);
  const mode = args.text("mode") ?? "grid";
  if (!["grid", "single", "loads"].includes(mode)) {
    throw new UsageError(`--mode must be grid, single or loads, got "${mode}"`);
  }
  runsOf(args, null); // told before anything is made
  targetOf(args);
  if (args.inputs.length > 1) throw new UsageError(`One folder at most, got ${args.inputs.length}`);

  const work = await Deno.makeTempDir({ prefix: "fastsafetensors-bench-" });
  try {
    const folder = args.inputs[0] ?? `${work}/files`;
    if (args.inputs.length === 0) await Deno.mkdir(folder);
    if (args.flag("stand-in")) {
      // Without what it checks and delays, unless the environment says otherwise: rates are what is wanted here.
      await useStandIn(work, folder, {
        FST_SIM_3FS_CHECKS: "0",
        FST_SIM_3FS_DELAY_US: "0",
        FST_SIM_3FS_WORKERS: String(Math.max(2, navigator.hardwareConcurrency)),
      });
    }
    const found = await filesIn(folder);
    if (found.length === 0 && args.inputs.length > 0) {
      throw new Error(`No .safetensors file is in "${folder}"`);
    }
    const files = found.length > 0 ? found : await makeFiles(folder, args.bytes("bytes") ?? 2 ** 30);
    const bytes = files.reduce((sum, { length }) => sum + length, 0);
    console.error(
      `${formatBytes(bytes)} in ${formatCount(files.length, "file")}; backend "${await getBackend()}"`,
    );
    if (mode !== "loads") return await sweep(args, files, await getHf3fsLibPath());
    const results = await compareLoads(files.map(({ path }) => path), args.count("iterations") ?? 3);
    console.log(formatLoads(results));
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

try {
  await main(Deno.args);
} catch (error) {
  const wrongUsage = error instanceof UsageError;
  console.error(`error: ${(error as Error).message}${wrongUsage ? `\n\n${USAGE}` : ""}`);
  Deno.exitCode = wrongUsage ? 2 : 1;
}
