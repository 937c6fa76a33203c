/**
 * Comparison of saves: the machine's limit, this saver and the Python reference if it is installed, with and without
 * waiting for storage, in turns.
 *
 * In every turn each contender runs once, in a separate process and into new files, after all pending writes to
 * storage; each turn begins with another contender.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatTable } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { type SaveKind, type Saver, savers } from "./save/contenders.ts";
import { describeMachine, median } from "./side_by_side/report.ts";
import { output } from "./side_by_side/tools.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:save [options]

Saves as many bytes from memory with the write probe, this saver and the reference in Python where it is installed, in
turns; prints a table and writes JSON.

  --bytes N     bytes to save, a multiple of 64 MiB (default 4GiB; with --quick 256MiB)
  --turns N     turns (default 5; with --quick 2)
  --quick       small and short: to see that it works, not to measure
  --kind K      synced or unsynced (default both)
  --dir D       write to this folder (default a temporary one)
  --out FILE    write the results as JSON
  --save        write them to bench/results/save.json
  --help        print this`;

/** The results of one contender. */
interface Result {
  readonly name: string;
  readonly role: Saver["role"];
  /** Seconds of every turn, in their order. */
  readonly seconds: readonly number[];
  readonly median: number;
  /** Bytes / median / 1e9. */
  readonly gigabytesPerSecond: number;
  /** The median of the best variant of the probe / this median. */
  readonly ofLimit: number;
  /** The median of the reference / this median; null without it. */
  readonly timesReference: number | null;
}

const SAVED = new URL("./results/save.json", import.meta.url).pathname;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    bytes: "text",
    turns: "text",
    quick: "flag",
    kind: "text",
    dir: "text",
    out: "text",
    save: "flag",
  });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`The folder is named with --dir, got "${args.inputs[0]}"`);
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const bytes = args.bytes("bytes") ?? (quick ? 2 ** 28 : 2 ** 32);
  if (bytes % 2 ** 26 !== 0) throw new UsageError(`--bytes must be a multiple of 64MiB, got ${bytes}`);
  const kinds = kindsOf(args.text("kind"));

  const work = tempFolder(args.text("dir"));
  const all = await savers(work);
  const results: Partial<Record<SaveKind, Result[]>> = {};
  console.log(`${formatBytes(bytes)}, medians of ${turns} turns`);
  for (const kind of kinds) {
    results[kind] = evaluate(await takeTurns(all, bytes, work, kind, turns), bytes);
    console.log(`\n${kind.toUpperCase()}\n${format(results[kind])}`);
  }
  const out = args.text("out") ?? (args.flag("save") ? SAVED : undefined);
  const report = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    bytes,
    turns,
    results,
  };
  await writeReport(out, report);
}

function kindsOf(text: string | undefined): SaveKind[] {
  if (text === undefined) return ["synced", "not synced"];
  if (text === "synced") return ["synced"];
  if (text === "unsynced") return ["not synced"];
  throw new UsageError(`--kind must be synced or unsynced, got "${text}"`);
}

/** Runs every contender once a turn, beginning with another one in each. */
async function takeTurns(
  all: readonly Saver[],
  bytes: number,
  work: string,
  kind: SaveKind,
  turns: number,
): Promise<Map<Saver, number[]>> {
  const seconds = new Map(all.map((saver) => [saver, [] as number[]]));
  for (let turn = 0; turn < turns; turn++) {
    for (let index = 0; index < all.length; index++) {
      const saver = all[(index + turn) % all.length]!;
      const folder = `${work}/run`;
      await Deno.mkdir(folder);
      await output("sync", []);
      seconds.get(saver)!.push(await saver.run(bytes, folder, kind));
      await Deno.remove(folder, { recursive: true });
    }
  }
  return seconds;
}

function evaluate(seconds: ReadonlyMap<Saver, readonly number[]>, bytes: number): Result[] {
  const medianOf = (role: Saver["role"]) =>
    Math.min(...seconds.entries().filter(([saver]) => saver.role === role).map(([, runs]) => median(runs)));
  const limit = medianOf("limit"), reference = medianOf("reference");
  return seconds.entries().map(([{ name, role }, runs]) => {
    const middle = median(runs);
    return {
      name,
      role,
      seconds: runs,
      median: middle,
      gigabytesPerSecond: bytes / middle / 1e9,
      ofLimit: limit / middle,
      timesReference: Number.isFinite(reference) ? reference / middle : null,
    };
  }).toArray();
}

/** A table; of the probe only the best variant. */
function format(results: readonly Result[]): string {
  const best = results.find(({ role, ofLimit }) => role === "limit" && ofLimit === 1);
  const rows = results.filter((result) => result === best || result.role !== "limit").map((result) => [
    result.name,
    result.gigabytesPerSecond.toFixed(2),
    `${result.median.toFixed(3)} s`,
    result.ofLimit.toFixed(2),
    result.timesReference?.toFixed(2) ?? "",
  ]);
  return formatTable([["", "GB/s", "median", "of limit", "x reference"], ...rows], [1, 2, 3, 4]);
}

await runCommand(USAGE, main);
