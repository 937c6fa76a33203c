/**
 * The package's own code on a model of a GPU: the stand-in for CUDA takes the time that published hardware takes
 * (tests/sim/cuda/model.c), and writes down what each engine did when. A model, not a measurement.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { runCommand, writeReport } from "./command.ts";
import { formatModel, type ModelCase, type ModelReport } from "./cuda_model/report.ts";
import { CASES, runCase } from "./cuda_model/run.ts";
import { useStandIns } from "./gpu/stand_ins.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:cuda-model [options]

Loads 10 GB of large and of small tensors twice on a model of a GPU, its link and its storage, and compares with the limit
of that model, min(read, copy). A model: it shows whether the engines have work at all times, and measures nothing.

  --case NAME   only the cases with this in their names
  --slower N    the time of the model runs N times slower than this machine's (default 32; more on a busy machine)
  --out FILE    write the results as JSON
  --save        write them to bench/results/cuda_model.json, for deno task bench:report
  --help        print this`;

const RESULTS = new URL("./results/cuda_model.json", import.meta.url).pathname;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, { case: "text", slower: "text", out: "text", save: "flag" });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`There are no inputs, got "${args.inputs[0]}"`);
  const wanted = args.text("case") ?? "";
  const chosen = CASES.filter(({ name }) => name.includes(wanted));
  if (chosen.length === 0) {
    throw new UsageError(`--case must be part of one of: ${CASES.map(({ name }) => name).join(", ")}`);
  }
  const work = tempFolder();
  await useStandIns(work);
  const cases: ModelCase[] = [];
  let rates = { readRate: 0, copyRate: 0 };
  for (const one of chosen) {
    const { result, timeline } = await runCase(`${work}/files`, one, args.count("slower") ?? 32);
    cases.push(result);
    rates = { readRate: timeline.readRate, copyRate: timeline.copyRate };
  }
  const report: ModelReport = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    turns: 1,
    ...rates,
    cases,
  };
  console.log(`A model, not a measurement: storage ${rates.readRate} GB/s, link ${rates.copyRate} GB/s\n`);
  console.log(formatModel(report));
  await writeReport(args.text("out") ?? (args.flag("save") ? RESULTS : undefined), report);
}

await runCommand(USAGE, main);
