/**
 * Comparison: the machine's limits, this loader, `Deno.readFile` and the Python packages if they are installed, on the
 * same files, in one run and in turns.
 *
 * In every turn each contender runs once, in a separate process and into a fresh destination; each turn begins with
 * another contender. Hot: all files are in the page cache. Cold: none of their bytes is, which is checked.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { type CacheKind, contenders } from "./side_by_side/contenders.ts";
import { prepareData } from "./side_by_side/data.ts";
import { describeMachine, evaluate, formatResults, type Report } from "./side_by_side/report.ts";
import { castContenders, columnContenders } from "./side_by_side/tasks.ts";
import { Tools } from "./side_by_side/tools.ts";
import { takeTurns } from "./side_by_side/turns.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:side-by-side [options]

Loads the same files with the limit probes, this loader, Deno.readFile and the peers in Python where they are installed,
in turns; prints a table and writes JSON. Makes a model of 4 shards and the same size in one file in a temporary folder.

  --bytes N     size of the model (default 4GiB; with --quick 512MB)
  --turns N     turns (default 5; with --quick 2)
  --quick       small and short: to see that it works, not to measure
  --state S     hot or cold (default both)
  --dir D       use the model in this folder, or create one there; it is not removed
  --out FILE    write the results as JSON
  --save        write them to bench/results/side_by_side.json
  --help        print this`;

/** Of so many ranks, one reads its columns. */
const RANKS = 4;

const SAVED = new URL("./results/side_by_side.json", import.meta.url).pathname;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    bytes: "text",
    turns: "text",
    quick: "flag",
    state: "text",
    dir: "text",
    out: "text",
    save: "flag",
  });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`Files are named with --dir, got "${args.inputs[0]}"`);
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const kinds = args.text("state")?.split(",") ?? ["hot", "cold"];
  if (!kinds.every((kind): kind is CacheKind => kind === "hot" || kind === "cold")) {
    throw new UsageError(`--state must be hot or cold, got "${args.text("state")}"`);
  }

  const work = tempFolder();
  const tools = await Tools.build(work);
  const data = await prepareData(
    args.text("dir") ?? work,
    args.bytes("bytes") ?? (quick ? 512e6 : 2 ** 32),
  );
  const all = [
    ...await contenders(tools, data),
    ...await castContenders(tools, data.shards, [2, 4, 8]),
    ...await columnContenders(tools, work, data.shards, RANKS, [2, 8]),
  ];
  const memory = Math.ceil(2.25 * data.bytes); // the cast doubles the bytes, and needs some staging memory
  const results: Report["results"] = {};
  console.log(
    `${formatBytes(data.bytes)} in ${data.shards.length} files, medians of ${formatCount(turns, "turn")}`,
  );
  for (const kind of kinds) {
    const those = all.filter((one) => one.kinds.includes(kind));
    const samples = await takeTurns(tools, those, { turns, kind, memory });
    results[kind] = evaluate(samples, data.bytes);
    console.log(`\n${kind.toUpperCase()}\n${formatResults(results[kind])}`);
  }
  const report: Report = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    data: { files: data.shards.length, bytes: data.bytes },
    turns,
    results,
  };
  const out = args.text("out") ?? (args.flag("save") ? SAVED : undefined);
  await writeReport(out, report);
}

await runCommand(USAGE, main);
