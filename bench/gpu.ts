/**
 * Comparison on a GPU: the limits of storage and of the copy to the device, this loader, and `load_file(device="cuda")`
 * and fastsafetensors if they can be imported, on the same files, in one run and in turns.
 *
 * In every turn each contender runs once, in a separate process and into fresh device memory; each turn begins with
 * another contender. Hot: all files are in the page cache. Cold: none of their bytes is, which is checked.
 */
import { doctor } from "../src/doctor/mod.ts";
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { gpuContenders } from "./gpu/contenders.ts";
import { evaluateGpu, formatGpuResults, type GpuReport, type GpuResult } from "./gpu/report.ts";
import { STAND_IN_NAME, useStandIns } from "./gpu/stand_ins.ts";
import type { CacheKind } from "./side_by_side/contenders.ts";
import { prepareData } from "./side_by_side/data.ts";
import { describeMachine } from "./side_by_side/report.ts";
import { buildProgram, Tools } from "./side_by_side/tools.ts";
import { takeTurns } from "./side_by_side/turns.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno task bench:gpu [options]

Loads the same files to the first GPU with this loader, and with safetensors and fastsafetensors where torch sees a GPU,
in turns with probes of what is possible; prints a table and writes JSON. Makes a model in a temporary folder.

  --bytes N      size of the model (default 8GiB; with --quick 512MB)
  --turns N      turns (default 5; with --quick 2)
  --cold-turns N turns with cold files (default: as many)
  --quick        small and short: to see that it works, not to measure
  --state S      hot or cold (default both)
  --dir D        use the model in this folder, or create one there; it is not removed
  --out FILE     write the results as JSON
  --save         write them to bench/results/gpu.json
  --stand-ins    rehearse on the stand-ins of tests/sim/cuda: says nothing about any GPU, and is not saved
  --help         print this`;

const ROOT = new URL("../", import.meta.url).pathname;

/** The source of the limits. */
export const PEAK_SOURCE = `${ROOT}bench/gpu/peak.c`;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    bytes: "text",
    turns: "text",
    "cold-turns": "text",
    quick: "flag",
    state: "text",
    dir: "text",
    out: "text",
    save: "flag",
    "stand-ins": "flag",
  });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`Files are named with --dir, got "${args.inputs[0]}"`);
  const rehearsal = args.flag("stand-ins");
  if (rehearsal && args.flag("save")) {
    throw new UsageError("--save and --stand-ins exclude each other: figures of stand-ins are not results");
  }
  const quick = args.flag("quick");
  const turns = args.count("turns") ?? (quick ? 2 : 5);
  const coldTurns = args.count("cold-turns") ?? turns;
  const kinds = args.text("state")?.split(",") ?? ["hot", "cold"];
  if (!kinds.every((kind): kind is CacheKind => kind === "hot" || kind === "cold")) {
    throw new UsageError(`--state must be hot or cold, got "${args.text("state")}"`);
  }

  const work = tempFolder();
  if (rehearsal) await useStandIns(work);
  const { cuda } = await doctor();
  const [gpu] = cuda.devices;
  if (!gpu) {
    console.log(`Cannot measure: CUDA is not usable: ${cuda.reason}`);
    return;
  }
  const tools = await Tools.build(work);
  const peak = await buildProgram(work, "peak", PEAK_SOURCE);
  const data = await prepareData(
    args.text("dir") ?? work,
    args.bytes("bytes") ?? (quick ? 512e6 : 2 ** 33),
    false,
  );
  const all = await gpuContenders(peak, data, {
    gds: cuda.gds.usable,
    limitThreads: turns > 2 ? [1, 2, 4, 8, 16] : [2, 8],
  });
  const results: Partial<Record<CacheKind, GpuResult[]>> = {};
  const name = rehearsal ? STAND_IN_NAME : gpu.name || "an unnamed GPU";
  console.log(
    `${formatBytes(data.bytes)} in ${data.shards.length} files to ${name}, medians of ${
      formatCount(turns, "turn")
    }`,
  );
  const { capability, totalBytes } = gpu;
  const { runtimeVersion, driverVersion, gds } = cuda;
  const about = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    gpu: { name, capability, totalBytes, runtimeVersion, driverVersion, gds },
    data: { files: data.shards.length, bytes: data.bytes },
  };
  const out = args.text("out") ?? (args.flag("save") ? `${ROOT}bench/results/gpu.json` : undefined);
  for (const kind of kinds) {
    const those = all.filter((one) => one.kinds.includes(kind));
    await takeTurns(tools, those, {
      turns: kind === "cold" ? coldTurns : turns,
      kind,
      memory: data.bytes,
      // After every turn: a benchmark that is stopped leaves the results of its complete turns.
      async onTurn(samples) {
        results[kind] = evaluateGpu(samples, data.bytes);
        const taken = samples.values().next().value!.length;
        const report: GpuReport = { ...about, turns: taken, results };
        await writeReport(out, report);
      },
    });
    console.log(`\n${kind.toUpperCase()}\n${formatGpuResults(results[kind]!)}`);
  }
}

await runCommand(USAGE, main);
