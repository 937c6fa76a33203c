/**
 * The rate of reads from 3FS or any folder, by size of buffers and requests, number of processes, and pipelining.
 */
import { getBackend, getHf3fsLibPath } from "../src/three_fs/mod.ts";
import type { Arguments } from "../src/cli/arguments.ts";
import { formatBytes, formatCount, formatRate } from "../src/cli/text.ts";
import { runCommand } from "./command.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { modeOf, readArguments, runsOf, targetOf, USAGE } from "./storage/arguments.ts";
import { filesIn, makeFiles, useSlowStandIns, useStandIn } from "./storage/data.ts";
import { compareLoads, formatLoads } from "./storage/loads.ts";
import { compareOverlap, formatOverlap } from "./storage/overlap.ts";
import { formatCombination, formatSummaries, type Report, summarize } from "./storage/report.ts";
import { runCombination, type Sample } from "./storage/run.ts";
import type { Range } from "./storage/sweep.ts";
import { writeReport } from "./storage/write.ts";
import { tempFolder } from "./temp_folder.ts";

const STAND_IN_LABEL =
  "On the stand-in for 3FS: threads that read an ordinary folder\nIt says nothing about 3FS";

async function sweep(args: Arguments, files: readonly Range[], library: string | null): Promise<void> {
  const runs = runsOf(args, library);
  const target = targetOf(args);
  const samples: Sample[] = [];
  for (const [index, run] of runs.entries()) {
    const turns = await runCombination(run, files, target, args.count("iterations") ?? 3);
    samples.push(...turns);
    const rates = turns.map(({ gigabytesPerSecond }) => formatRate(gigabytesPerSecond)).join(", ");
    console.error(`${index + 1} of ${runs.length}: ${formatCombination(run)}: ${rates}`);
  }
  const report: Report = {
    made: new Date().toISOString(),
    label: args.text("label") ?? (args.flag("stand-in") ? STAND_IN_LABEL : ""),
    machine: await describeMachine(),
    library: args.flag("stand-in") ? "tests/sim/3fs" : library,
    target,
    data: { files: files.length, bytes: totalBytes(files) },
    summaries: summarize(samples),
    samples,
  };
  console.log(formatSummaries(report.summaries));
  const folder = args.text("output-dir");
  if (folder !== undefined) await writeReport(folder, report);
}

function totalBytes(files: readonly Range[]): number {
  return files.reduce((sum, { length }) => sum + length, 0);
}

/** The files to read: those of the folder, or new ones in a temporary folder. */
async function prepareFiles(args: Arguments, folder: string): Promise<Range[]> {
  const found = await filesIn(folder);
  if (found.length > 0) return found;
  if (args.inputs.length > 0) throw new Error(`No .safetensors file is in "${folder}"`);
  return await makeFiles(folder, args.bytes("bytes") ?? 2 ** 30);
}

async function measure(args: Arguments, work: string): Promise<void> {
  const mode = modeOf(args);
  const folder = args.inputs[0] ?? `${work}/files`;
  if (args.inputs.length === 0) await Deno.mkdir(folder);
  await using stack = new AsyncDisposableStack();
  if (args.flag("stand-in")) {
    await Deno.stat(folder); // it creates a folder in it
    stack.use(await useStandIn(work, folder));
    if (mode === "overlap") await useSlowStandIns(work);
  }
  const files = await prepareFiles(args, folder);
  const bytes = formatBytes(totalBytes(files));
  console.error(`${bytes} in ${formatCount(files.length, "file")}; backend "${await getBackend()}"`);
  const iterations = args.count("iterations") ?? 3;
  const library = await getHf3fsLibPath();
  if (mode === "loads") {
    console.log(formatLoads(await compareLoads(files.map(({ path }) => path), iterations)));
  } else if (mode === "overlap") {
    const [run] = runsOf(args, library);
    console.log(formatOverlap(await compareOverlap(run!, files, targetOf(args), iterations)));
  } else await sweep(args, files, library);
}

async function main(argv: readonly string[]): Promise<void> {
  const args = readArguments(argv);
  if (args.flag("help")) return console.log(USAGE);
  const work = tempFolder();
  await measure(args, work);
}

await runCommand(USAGE, main);
