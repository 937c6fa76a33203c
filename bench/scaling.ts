/**
 * Measures loads by the bytes of a model, by the number of its tensors and by the loader's lanes, casts by the bytes of a
 * model and columns by the number of ranks, each beside the limit probe of the same task on the same files. All files are
 * in the page cache.
 *
 * All points of an axis are measured in turns, each run in a separate process and into a fresh destination.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatCount } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { AXES, type Axis, FULL, type Place, preparePlaces, QUICK } from "./scaling/axes.ts";
import { formatScaling, type Point, type ScalingReport } from "./scaling/report.ts";
import { describeMachine, evaluate } from "./side_by_side/report.ts";
import { Tools } from "./side_by_side/tools.ts";
import { takeTurns } from "./side_by_side/turns.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:scaling [options]

Loads models of several sizes, with several numbers of tensors and of lanes, cast to F32, and the columns of one of
several ranks, each beside a limit probe; prints a table and writes JSON. Makes about 5 GB of models in a temporary
folder; takes about 8 minutes.

  --turns N     turns (default 5; with --quick 2)
  --quick       small and short: to see that it works, not to measure
  --out FILE    write the results as JSON
  --save        write them to bench/results/scaling.json
  --help        print this`;

const SAVED = new URL("./results/scaling.json", import.meta.url).pathname;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, { turns: "text", quick: "flag", out: "text", save: "flag" });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`The models are made, got "${args.inputs[0]}"`);
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const work = tempFolder();
  const tools = await Tools.build(work);
  const places = await preparePlaces(tools, work, quick ? QUICK : FULL);
  const axes: Partial<Record<Axis, Point[]>> = {};
  for (const axis of AXES) {
    axes[axis] = await measure(tools, places[axis], turns);
    console.error(`${axis}: ${formatCount(turns, "turn")} done`);
  }
  const report: ScalingReport = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    turns,
    axes,
  };
  console.log(formatScaling(report.axes));
  const out = args.text("out") ?? (args.flag("save") ? SAVED : undefined);
  await writeReport(out, report);
}

async function measure(tools: Tools, places: readonly Place[], turns: number): Promise<Point[]> {
  const samples = await takeTurns(tools, places.flatMap(({ contenders }) => contenders), {
    turns,
    kind: "hot",
    memory: Math.ceil(2.25 * Math.max(...places.map(({ bytes }) => bytes))), // a cast doubles the bytes
  });
  return places.map(({ value, bytes, contenders }) => {
    const those = new Map(contenders.map((contender) => [contender, samples.get(contender)!]));
    return { value, bytes, results: evaluate(those, bytes) };
  });
}

await runCommand(USAGE, main);
