/**
 * Comparison of ranks with their limits: a broadcast of a model over MPI with a C program that only calls MPI_Bcast for
 * the same blocks, and ranks that each read their part with one process that reads all.
 *
 * In every turn each contender runs once, in separate processes. The files are in the page cache, and free memory was
 * touched before: a virtual machine may have returned it to its host, and the first touch would be slow.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount, formatTable } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { type Contender, findContenders } from "./ranks/contenders.ts";
import type { RankSample } from "./ranks/sample.ts";
import { prepareData } from "./side_by_side/data.ts";
import { describeMachine, median } from "./side_by_side/report.ts";
import { TOUCH } from "./side_by_side/sample.ts";
import { Tools } from "./side_by_side/tools.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:ranks [options]

Compares broadcasts over MPI with a C program, and ranks that read their parts with a single process. Uses what there is
of Open MPI and MPICH. Makes a model of 4 shards in a temporary folder.

  --bytes N     size of the model (default 1GB; with --quick 128MB)
  --turns N     turns (default 5; with --quick 2)
  --ranks N     how many ranks, may be given several times (default 2 and 4)
  --quick       small and short: to see that it works, not to measure
  --dir D       use the model in this folder, or create one there; it is not removed
  --out FILE    write the results as JSON
  --save        write them to bench/results/ranks.json
  --help        print this`;

const SAVED = new URL("./results/ranks.json", import.meta.url).pathname;

const KINDS = {
  bytes: "text",
  turns: "text",
  ranks: "list",
  quick: "flag",
  dir: "text",
  out: "text",
  save: "flag",
} as const;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, KINDS);
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`Files are named with --dir, got "${args.inputs[0]}"`);
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const bytes = args.bytes("bytes") ?? (quick ? 128e6 : 1e9);
  const sizes = args.list("ranks").length > 0 ? args.list("ranks").map(Number) : [2, 4];
  if (!sizes.every((size) => Number.isInteger(size) && size > 1)) {
    throw new UsageError("--ranks must be a whole number from 2 on");
  }
  const work = tempFolder();
  const { shards } = await prepareData(args.text("dir") ?? work, bytes);
  const tools = await Tools.build(work);
  await tools.pageCache("warm", shards);
  Deno.env.set(TOUCH, tools.touchCommand(2 * bytes));
  const contenders = await findContenders(work, shards, sizes);
  const files = formatCount(shards.length, "file");
  console.log(`${formatBytes(bytes)} in ${files}, medians of ${formatCount(turns, "turn")}`);
  const results = evaluate(await takeTurns(contenders, turns));
  console.log(format(results));
  const out = args.text("out") ?? (args.flag("save") ? SAVED : undefined);
  if (out === undefined) return;
  const made = new Date().toISOString();
  const report = { made, machine: await describeMachine(), bytes, turns, results };
  await writeReport(out, report);
}

/** Runs every contender once a turn, beginning with another one in each. */
async function takeTurns(
  all: readonly Contender[],
  turns: number,
): Promise<Map<Contender, readonly RankSample[]>> {
  const samples = new Map(all.map((contender) => [contender, [] as RankSample[]]));
  for (let turn = 0; turn < turns; turn++) {
    for (let index = 0; index < all.length; index++) {
      const contender = all[(index + turn) % all.length]!;
      samples.get(contender)!.push(await contender.run());
    }
  }
  return samples;
}

/** The results of one contender. */
interface Result {
  readonly name: string;
  /** Seconds of every turn. */
  readonly seconds: readonly number[];
  /** The median. */
  readonly gigabytesPerSecond: number;
  /** This rate / the rate of the one that it is compared with; null if there is none. */
  readonly ratio: number | null;
  /** The worst turn's. */
  readonly overread: number | null;
  /** The worst turn's, in bytes. */
  readonly beyondTensors: number | null;
}

function evaluate(samples: ReadonlyMap<Contender, readonly RankSample[]>): Result[] {
  const rates = new Map(samples.entries().map(([{ name, rate }, runs]) => [name, median(runs.map(rate))]));
  const worst = (values: (number | undefined)[]) => {
    const known = values.filter((value) => value !== undefined);
    return known.length > 0 ? Math.max(...known) : null;
  };
  return samples.entries().map(([{ name, against }, runs]) => {
    return {
      name,
      seconds: runs.map((run) => run.seconds),
      gigabytesPerSecond: rates.get(name)! / 1e9,
      ratio: against === undefined ? null : rates.get(name)! / rates.get(against)!,
      overread: worst(runs.map((run) => run.overread)),
      beyondTensors: worst(runs.map((run) => run.beyondTensors)),
    };
  }).toArray();
}

function format(results: readonly Result[]): string {
  const rows = results.map(({ name, gigabytesPerSecond, ratio, overread, beyondTensors }) => [
    name,
    gigabytesPerSecond.toFixed(2),
    ratio === null ? "" : ratio.toFixed(2),
    overread === null ? "" : overread.toFixed(4),
    beyondTensors === null ? "" : formatBytes(Math.max(0, beyondTensors)),
  ]);
  return formatTable([["", "GB/s", "ratio", "read / share", "memory beyond"], ...rows], [1, 2, 3, 4]);
}

await runCommand(USAGE, main);
