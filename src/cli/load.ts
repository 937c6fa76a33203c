/**
 * `load`: loads files and shows how fast.
 */
import { isDType, type LoadStats, type OpenOptions, prepare } from "../../mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { asUsage, type Command, nameFilter, openModel, requireTensors } from "./command.ts";
import { loadTogether } from "./load_ranks.ts";
import { ProgressBar } from "./progress_bar.ts";
import { formatBytes, formatCount, formatRate, formatSeconds, printable } from "./text.ts";

/** The command. */
export const load: Command = {
  summary: "Load files and show how fast",
  usage: `Usage: deno task load <file|dir|index.json>… [options]

Loads tensors into memory and shows how long it took. Names a folder, an index or any number of files.

  --device D     where the tensors go: cpu, cuda, cuda:1, …, webgpu (default cpu)
  --dtype T      cast floating tensors while they land: F32, F16, BF16, F64, F8_E4M3, F8_E5M2, …
  --names GLOB   only these tensors; * and ? are wildcards; may be given several times
  --gds M        GPUDirect Storage for a load to a GPU: auto, require or off (default auto)
  --threads N    lanes that read at once, 1 to 16 (default: what suits the machine)
  --ranks        load together with the other processes of mpirun, each file read by one of them
  --shard S      with --ranks: what each process gets, a part along a dimension (0, 1, …), or its parts by a plan, read
                 by itself: llama, mixtral, gpt2 (default: every tensor, whole)
  --repeat N     load N times and report the median
  --json         print statistics as JSON
  --help         print this

The time counts from the opening of the files to the last byte; finding or building the native library, or waking a
GPU, is not in it.`,
  options: {
    device: "text",
    dtype: "text",
    names: "list",
    gds: "text",
    threads: "text",
    ranks: "flag",
    shard: "text",
    repeat: "text",
  },

  async run(args) {
    const repeat = args.count("repeat") ?? 1;
    const options = loadOptions(args);
    await asUsage(() => prepare(options.device)); // finds or builds the native library, and wakes a GPU, once
    if (args.flag("ranks")) return await loadTogether(args, options, repeat);
    if (args.text("shard") !== undefined) throw new UsageError("--shard goes with --ranks");
    const runs: LoadStats[] = [];
    while (runs.length < repeat) runs.push(await loadOnce(args, options));
    const median = runs.toSorted((a, b) => a.seconds - b.seconds)[(repeat - 1) >> 1]!;
    if (args.flag("json")) {
      console.log(JSON.stringify({ ...median, runs: runs.map((run) => run.seconds) }, null, 2));
    } else {
      console.log(summarize(median));
      if (repeat > 1) console.log(`  ${repeat} loads: ${rates(runs)}`);
    }
  },
};

function loadOptions(args: Arguments): OpenOptions {
  const options: OpenOptions = {};
  const device = args.text("device");
  if (device !== undefined) options.device = device as NonNullable<OpenOptions["device"]>; // the library checks it
  const dtype = args.text("dtype")?.toUpperCase();
  if (dtype !== undefined) {
    if (!isDType(dtype)) throw new UsageError(`There is no dtype "${args.text("dtype")}"`);
    options.dtype = dtype;
  }
  const names = nameFilter(args.list("names"));
  if (names) options.names = names;
  const gds = args.text("gds");
  if (gds !== undefined) options.gds = gds as NonNullable<OpenOptions["gds"]>; // the library checks it
  const threads = args.count("threads");
  if (threads !== undefined) options.maxThreads = threads;
  return options;
}

async function loadOnce(args: Arguments, options: OpenOptions): Promise<LoadStats> {
  using bar = new ProgressBar("Loading", { quiet: args.flag("json") });
  await using model = await openModel(args.inputs, {
    ...options,
    onProgress: ({ bytes, totalBytes }) => bar.update(bytes, totalBytes),
  });
  requireTensors(model, args.list("names"));
  await model.whenLoaded();
  return model.stats();
}

const WAYS: Readonly<Record<string, string>> = {
  buffered: "through the page cache",
  direct: "past the page cache",
  gds: "fetched by the GPU itself",
  "gds-compat": "by cuFile in compatibility mode, not by the GPU itself",
  "3fs": "through 3FS' rings",
  portable: "by Deno's own file functions",
};

/** How a load went, in a few lines. */
export function summarize(stats: LoadStats): string {
  const { files, tensors, bytes, seconds, gigabytesPerSecond, device, path, threads } = stats;
  const what = `${formatCount(tensors, "tensor")} of ${formatBytes(bytes)} from ${
    formatCount(files, "file")
  }`;
  const rate = formatRate(gigabytesPerSecond);
  const way = path === null ? "nothing had to be read" : `${path}, ${WAYS[path]}`;
  return [
    `Loaded ${what} in ${formatSeconds(seconds)}: ${rate}`,
    `  to ${device}; ${way}; ${formatCount(threads, "thread")}`,
    ...stats.notes.map((note) => `  note: ${printable(note)}`),
  ].join("\n");
}

function rates(runs: readonly LoadStats[]): string {
  return runs.map((run) => formatRate(run.gigabytesPerSecond)).join(", ");
}
