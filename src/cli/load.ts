/**
 * `load`: loads files and shows the speed.
 */
import { type LoadStats, type OpenOptions, prepare } from "../../mod.ts";
import { checkDevice } from "../base/device_name.ts";
import type { CheckpointOptions } from "../pytorch/mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { CACHE, cacheOf } from "./cache.ts";
import { CHECKPOINT, checkpointOptionsOf } from "./checkpoints.ts";
import type { Command } from "./command.ts";
import {
  asUsage,
  describeCasts,
  DTYPE,
  dtypeOf,
  type InMemory,
  inMemory,
  MODEL_INPUTS,
  nameFilter,
  NAMES,
  openModel,
  requireTensors,
  withoutEngine,
} from "./inputs.ts";
import { loadTogether, SHARD_PLANS } from "./load_ranks.ts";
import { ProgressBar } from "./progress_bar.ts";
import { describeRuns, medianOf } from "./repeats.ts";
import { formatBytes, formatCount, printable } from "./text.ts";

const SOURCES = ["file", "3fs"] as const;
const GDS = ["auto", "require", "off"] as const;

/** The command. */
export const load: Command = {
  summary: "Load files and show the speed",
  inputs: MODEL_INPUTS,
  description:
    "Loads tensors into memory and shows the duration and the path of the bytes. Takes a folder, an index, a " +
    "URL (https://…, hf://org/name, s3://bucket/prefix/), or any number of files.",
  options: {
    device: {
      kind: "text",
      value: "D",
      help: "where the tensors go: cpu, cuda, cuda:1, …, webgpu (default cpu)",
      choices: ["cpu", "cuda", "webgpu"],
    },
    dtype: DTYPE,
    names: NAMES,
    ...CHECKPOINT,
    source: {
      kind: "text",
      value: "S",
      help: "where the files are read from: file, or 3fs for the rings of 3FS (default: by the mount)",
      choices: SOURCES,
    },
    gds: {
      kind: "text",
      value: "M",
      help: "GPUDirect Storage for a load to a GPU: auto, require or off (default auto)",
      choices: GDS,
    },
    threads: {
      kind: "text",
      value: "N",
      help: "lanes that read in parallel, 1 to 16 (default: chosen for the machine)",
    },
    "block-bytes": {
      kind: "text",
      value: "N",
      help: "bytes of one read, such as 8MiB: a multiple of 4096 up to 64MiB (default 4MiB)",
    },
    "staging-bytes": {
      kind: "text",
      value: "N",
      help:
        "staging memory, for bytes that cannot be read directly into a tensor, such as 256MiB (default 64MiB)",
    },
    ranks: {
      kind: "flag",
      help: "load together with the other processes of mpirun; one of them reads each file",
    },
    shard: {
      kind: "text",
      value: "S",
      help: "with --ranks: each process gets a part along a dimension (0, 1, …), or reads its parts by a " +
        "plan: llama, mixtral, gpt2 (default: it gets every tensor, whole)",
      choices: Object.keys(SHARD_PLANS),
    },
    repeat: {
      kind: "text",
      value: "N",
      help: "load N times and report the median, the slowest and the fastest load",
    },
    cache: CACHE,
    "debug-log": { kind: "flag", help: "write the decisions of the load to stderr, line by line" },
    json: { kind: "flag", help: "print statistics as JSON" },
  },
  notes:
    "The time runs from the opening of the files to the last byte, without finding or building the native library " +
    "and without initializing a GPU. Options that are absent come from the configuration file that " +
    "FASTSAFETENSORS_CONFIG names, if it is set.",
  examples: [
    ["load model.safetensors", "one file, into memory"],
    ["load ~/models/llama --dtype BF16 --device cuda", "a folder of shards, to the first GPU"],
    ["load model.safetensors.index.json --names '*.q_proj.*' --repeat 5", "some tensors, five times"],
    ["load hf://org/name@v1.0", "a model on the Hub, at a tag"],
  ],

  async run(args) {
    const repeat = args.count("repeat") ?? 1;
    const options = await asUsage(() => Promise.resolve(loadOptions(args)));
    const ranks = args.flag("ranks");
    if (!ranks && args.text("shard") !== undefined) throw new UsageError("--shard needs --ranks");
    // Before the measurement: this finds or builds the native library, and initializes a GPU.
    await asUsage(() => prepare(options.device));
    if (ranks) return await loadTogether(args, options, repeat);
    const runs: LoadResult[] = [];
    while (runs.length < repeat) runs.push(await loadOnce(args, options));
    const median = medianOf(runs);
    if (args.flag("json")) {
      const dtypes = Object.fromEntries(median.dtypes);
      console.log(JSON.stringify({ ...median, dtypes, runs: runs.map((run) => run.seconds) }, null, 2));
    } else console.log(summarize(median, describeRuns(runs, median)));
  },
};

/** The given options of the library; the library checks their values. */
function loadOptions(args: Arguments): OpenOptions & CheckpointOptions {
  const device = args.text("device");
  return given<OpenOptions & CheckpointOptions>({
    ...checkpointOptionsOf(args),
    device: device === undefined ? undefined : checkDevice(device),
    dtype: dtypeOf(args),
    names: nameFilter(args.list("names")),
    source: args.choice("source", SOURCES),
    gds: args.choice("gds", GDS),
    maxThreads: args.count("threads"),
    blockBytes: args.bytes("block-bytes"),
    stagingBytes: args.bytes("staging-bytes"),
    cache: cacheOf(args),
    debugLog: args.flag("debug-log") || undefined,
  });
}

/** The record without its undefined members. */
function given<T extends object>(values: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T;
}

/** The result of one load. */
export interface LoadResult extends LoadStats, InMemory {}

async function loadOnce(args: Arguments, options: OpenOptions & CheckpointOptions): Promise<LoadResult> {
  using bar = new ProgressBar("Loading", { quiet: args.flag("json") });
  await using model = await openModel(args.inputs, {
    ...options,
    onProgress: ({ bytes, totalBytes }) => bar.update(bytes, totalBytes),
  });
  requireTensors(model, args.list("names"));
  await model.whenLoaded();
  return { ...model.stats(), ...inMemory(model) };
}

const WAYS: Readonly<Record<string, string>> = {
  buffered: "through the page cache",
  direct: "without the page cache",
  gds: "fetched by the GPU itself",
  "gds-compat": "by cuFile in compatibility mode, not by the GPU itself",
  "3fs": "through 3FS' rings",
  http: "over the network",
  cache: "from the cache of files on servers",
  portable: "by Deno's own file functions",
};

/**
 * The result of a load, in a few lines.
 *
 * @param timing what {@linkcode describeRuns} returns
 */
export function summarize(result: LoadResult, timing: string): string {
  const { files, tensors, bytes, device, path, threads, dtypes, memoryBytes } = result;
  const what = `${formatCount(tensors, "tensor")} of ${formatBytes(bytes)} from ${
    formatCount(files, "file")
  }`;
  const casts = describeCasts(dtypes);
  const memory = casts === "" ? "" : `, ${casts}: ${formatBytes(memoryBytes)} in memory`;
  const way = path === null ? "nothing had to be read" : `${path}, ${WAYS[path]}`;
  return [
    `Loaded ${what}${timing}`,
    `  to ${device}${memory}; ${way}; ${formatCount(threads, "thread")}`,
    ...withoutEngine(result.notes).map((note) => `  note: ${printable(note)}`),
  ].join("\n");
}
