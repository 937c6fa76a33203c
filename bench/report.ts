/**
 * Writes the results of the benchmarks into the documentation as tables and charts, or checks that they agree.
 */
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { runCommand } from "./command.ts";
import { differences, type Documents, makeCharts, makePages } from "./report/documents.ts";

const USAGE = `Usage: deno task bench:report [--check]

Writes the tables of README.md and docs/benchmarks.md, and the charts, from the JSON in bench/results. Charts are drawn
by Vega from npm; without it they are left as they are, with a warning.

  --check       write nothing; fail if a table or a chart differs from the JSON
  --help        print this`;

const ROOT = new URL("../", import.meta.url).pathname;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, { check: "flag" });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`There are no inputs, got "${args.inputs[0]}"`);
  const documents: Documents = new Map([...await makePages(ROOT), ...await chartsIfPossible()]);
  const differing = await differences(ROOT, documents);
  if (!args.flag("check")) {
    for (const path of differing) {
      await Deno.mkdir((ROOT + path).replace(/[^/]+$/, ""), { recursive: true });
      await Deno.writeTextFile(ROOT + path, documents.get(path)!);
      console.log(`wrote ${path}`);
    }
  } else if (differing.length > 0) {
    throw new Error(`Not what bench/results has: ${differing.join(", ")}: run deno task bench:report`);
  }
}

async function chartsIfPossible(): Promise<Documents> {
  try {
    return await makeCharts(ROOT);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    console.error(`warning: no charts, Vega cannot be loaded: ${error.message}`);
    return new Map();
  }
}

await runCommand(USAGE, main);
