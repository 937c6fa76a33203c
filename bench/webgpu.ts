/**
 * Comparison of loads to WebGPU: the naive way, the queue alone with bytes in memory, and this loader, on the same
 * cached files, in one run and in turns.
 *
 * In every turn each contender runs once, in a separate process; each turn begins with another contender.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount, formatTable } from "../src/cli/text.ts";
import { reportWebGpu } from "../src/device/webgpu/adapter.ts";
import { runCommand, writeReport } from "./command.ts";
import { prepareData } from "./side_by_side/data.ts";
import { describeMachine, median } from "./side_by_side/report.ts";
import type { Sample } from "./side_by_side/sample.ts";
import { output } from "./side_by_side/tools.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:webgpu [options]

Loads the same files to the GPU in turns: with Deno.readFile and one writeBuffer a tensor; with writeBuffer in pieces
from memory already loaded; with this loader. Prints a table. Makes a model in a temporary folder.

  --bytes N     size of the model (default 512MB)
  --turns N     turns (default 5)
  --dir D       use the model in this folder, or create one there; it is not removed
  --out FILE    write the results as JSON
  --help        print this`;

/** The contenders: a program of bench/webgpu, and its first argument. */
const CONTENDERS: readonly [name: string, program: string, ...argument: string[]][] = [
  ["naive: readFile, one writeBuffer per tensor", "naive.ts"],
  ["queue alone, pieces of 16 MB", "chunked.ts", String(16 * 2 ** 20)],
  ["queue alone, pieces of 4 MB", "chunked.ts", String(4 * 2 ** 20)],
  ["this loader", "this_loader.ts", "{}"],
  ["this loader, BF16 cast to F32", "this_loader.ts", '{"dtype":"F32"}'],
];

/** The contenders that this loader is compared with. */
const [NAIVE, QUEUE] = [0, 1];

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, { bytes: "text", turns: "text", dir: "text", out: "text" });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`Files are named with --dir, got "${args.inputs[0]}"`);
  const turns = args.count("turns") ?? 5;
  const { adapter, reason } = await reportWebGpu();
  if (!adapter) throw new Error(`Cannot measure: ${reason}`);
  const work = tempFolder();
  const data = await prepareData(args.text("dir") ?? work, args.bytes("bytes") ?? 512e6);
  console.log(
    `${formatBytes(data.bytes)} in ${formatCount(data.shards.length, "file")} to ${adapter.name}`,
  );
  const samples = await takeTurns(data.shards, turns);
  const results = evaluate(samples, data.bytes);
  console.log(`Medians of ${formatCount(turns, "turn")}\n\n${formatResults(results)}`);
  const out = args.text("out");
  if (out === undefined) return;
  const report = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    adapter,
    turns,
    results,
  };
  await writeReport(out, report);
}

/** Runs every contender once a turn; the samples of each. */
async function takeTurns(files: readonly string[], turns: number): Promise<Sample[][]> {
  const samples = CONTENDERS.map((): Sample[] => []);
  await Promise.all(files.map((path) => Deno.readFile(path))); // into the page cache
  for (let turn = 0; turn < turns; turn++) {
    for (let index = 0; index < CONTENDERS.length; index++) {
      const contender = (index + turn) % CONTENDERS.length;
      const [, program, ...argument] = CONTENDERS[contender]!;
      const path = new URL(`./webgpu/${program}`, import.meta.url).pathname;
      samples[contender]!.push(
        JSON.parse(await output(Deno.execPath(), ["run", "-A", path, ...argument, ...files])),
      );
    }
  }
  return samples;
}

/** The results of one contender. */
interface Result {
  readonly name: string;
  /** Seconds of every turn, in their order. */
  readonly seconds: readonly number[];
  /** Bytes of the files / median seconds / 1e9. */
  readonly gigabytesPerSecond: number;
  /** Its rate / that of the naive way, and of the queue alone: medians of the ratios within each turn. */
  readonly ofNaive: number;
  readonly ofQueue: number;
  /** Median of the peak host memory without the tensors, in bytes. */
  readonly beyondDestination: number;
  /** Median of the longest stall of the event loop, in milliseconds. */
  readonly stall: number;
}

function evaluate(samples: readonly Sample[][], bytes: number): Result[] {
  return samples.map((runs, index): Result => {
    const of = (other: number) =>
      median(runs.map(({ seconds }, turn) => samples[other]![turn]!.seconds / seconds));
    return {
      name: CONTENDERS[index]![0],
      seconds: runs.map(({ seconds }) => seconds),
      gigabytesPerSecond: bytes / median(runs.map(({ seconds }) => seconds)) / 1e9,
      ofNaive: of(NAIVE),
      ofQueue: of(QUEUE),
      beyondDestination: median(runs.map(({ beyondDestination }) => beyondDestination!)),
      stall: median(runs.map(({ stall }) => stall!)),
    };
  });
}

function formatResults(results: readonly Result[]): string {
  const rows = results.map(({ name, gigabytesPerSecond, ofNaive, ofQueue, beyondDestination, stall }) => [
    name,
    gigabytesPerSecond.toFixed(2),
    ofNaive.toFixed(2),
    ofQueue.toFixed(2),
    formatBytes(beyondDestination),
    `${stall.toFixed(1)} ms`,
  ]);
  const head = ["", "GB/s", "of naive", "of queue alone", "memory beyond", "longest stall"];
  return formatTable([head, ...rows], [1, 2, 3, 4, 5]);
}

await runCommand(USAGE, main);
