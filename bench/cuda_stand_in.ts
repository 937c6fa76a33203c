/**
 * The cost of a load to a device compared with a load to typed arrays, without a GPU: the same files from the page
 * cache to the CPU and to a stand-in for CUDA, in turns, each time into fresh memory.
 *
 * The stand-in's "device" is host memory to which another thread copies. The same cores copy each byte twice, while a
 * GPU would copy it by itself: the figures show the loader's own work, and nothing about a GPU.
 *
 * All turns are in one process, each load frees its memory at once, and the first turn does not count: a virtual
 * machine that requests memory from its host waits longer than a load takes.
 */
import { fastsafeOpen, HostTensor, type OpenOptions, prepare } from "../mod.ts";
import { parseArguments, UsageError } from "../src/cli/arguments.ts";
import { formatBytes, formatCount, formatTable } from "../src/cli/text.ts";
import { runCommand, writeReport } from "./command.ts";
import { STAND_IN_NAME, useStandIns } from "./gpu/stand_ins.ts";
import type { Contender } from "./side_by_side/contenders.ts";
import { prepareData } from "./side_by_side/data.ts";
import { describeMachine, evaluate } from "./side_by_side/report.ts";
import type { Sample } from "./side_by_side/sample.ts";
import { Tools } from "./side_by_side/tools.ts";
import { takeTurns } from "./side_by_side/turns.ts";
import { tempFolder } from "./temp_folder.ts";

const USAGE = `Usage: deno run -A bench/cuda_stand_in.ts [options]

Loads the same files from the page cache to the CPU and to a stand-in for CUDA, in turns, and tells how the rates
compare. It says nothing about any GPU.

  --bytes N      size of the model (default 1GiB)
  --turns N      turns (default 15)
  --options JSON options of the loads to the stand-in, such as {"maxThreads":4}
  --dir D        use the model in this folder, or create one there; it is not removed
  --out FILE     write the results as JSON
  --help         print this`;

async function main(argv: readonly string[]): Promise<void> {
  const args = parseArguments(argv, {
    bytes: "text",
    turns: "text",
    options: "text",
    dir: "text",
    out: "text",
  });
  if (args.flag("help")) return console.log(USAGE);
  if (args.inputs.length > 0) throw new UsageError(`Files are named with --dir, got "${args.inputs[0]}"`);
  const turns = args.count("turns") ?? 15;
  const options: OpenOptions<"cuda"> = { ...JSON.parse(args.text("options") ?? "{}"), device: "cuda" };
  const work = tempFolder();
  await useStandIns(work);
  await prepare();
  const tools = await Tools.build(work);
  const { shards, bytes } = await prepareData(args.text("dir") ?? work, args.bytes("bytes") ?? 2 ** 30);
  const all = [
    loader("CPU", shards, { device: "cpu" }),
    loader("CUDA stand-in", shards, options),
    loader("CUDA stand-in, through the host", shards, { ...options, gds: "off" }),
  ];
  await takeTurns(tools, all, { turns: 1, kind: "hot", memory: bytes });
  const results = evaluate(await takeTurns(tools, all, { turns, kind: "hot", memory: bytes }), bytes);
  const [cpu] = results;
  const rows = results.map(({ name, gigabytesPerSecond, median, ways }) => [
    name,
    gigabytesPerSecond.toFixed(2),
    `${median.toFixed(3)} s`,
    (cpu!.median / median).toFixed(2),
    ways.join(" / "),
  ]);
  console.log(
    `${formatBytes(bytes)} in ${shards.length} files, cached, medians of ${formatCount(turns, "turn")}\n` +
      formatTable([["to", "GB/s", "median", "of the CPU", "way"], ...rows], [1, 2, 3]),
  );
  const out = args.text("out");
  if (out === undefined) return;
  const report = {
    made: new Date().toISOString(),
    machine: await describeMachine(),
    gpu: STAND_IN_NAME,
    data: { files: shards.length, bytes },
    turns,
    results: results.map((result) => ({ ...result, ofCpu: cpu!.median / result.median })),
  };
  await writeReport(out, report);
}

function loader(name: string, files: readonly string[], options: OpenOptions<"cpu" | "cuda">): Contender {
  return { name, isLimit: false, kinds: ["hot"], files, run: () => load(files, options) };
}

async function load(files: readonly string[], options: OpenOptions<"cpu" | "cuda">): Promise<Sample> {
  const start = performance.now();
  await using model = await fastsafeOpen(files, options);
  await model.whenLoaded();
  const seconds = (performance.now() - start) / 1000;
  const buffers = new Set<ArrayBuffer>();
  for await (const [, tensor] of model) {
    if (tensor instanceof HostTensor) buffers.add(tensor.bytes.buffer);
    else tensor[Symbol.dispose]();
  }
  for (const buffer of buffers) buffer.transfer(0); // frees it at once, before the garbage collector
  const { path, threads } = model.stats();
  return { seconds, path, threads };
}

await runCommand(USAGE, main);
