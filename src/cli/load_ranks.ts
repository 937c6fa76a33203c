/**
 * `load --ranks`: several processes, started by a launcher such as `mpirun`, load together.
 */
import type { LoadStats, OpenOptions, SafeTensorsModel, ShardPlan, Tensor } from "../../mod.ts";
import { GPT2_SHARDS, LLAMA_SHARDS, MIXTRAL_SHARDS, MpiGroup } from "../ranks/mod.ts";
import type { CheckpointOptions } from "../pytorch/mod.ts";
import { type Arguments, UsageError } from "./arguments.ts";
import { quote } from "../base/text.ts";
import {
  describeCasts,
  type InMemory,
  inMemory,
  openModel,
  requireTensors,
  withoutEngine,
} from "./inputs.ts";
import { ProgressBar } from "./progress_bar.ts";
import { describeRuns, medianOf } from "./repeats.ts";
import { formatBytes, formatCount, printable } from "./text.ts";

/** The plans that `--shard` knows by name. */
export const SHARD_PLANS: Readonly<Record<string, ShardPlan>> = {
  llama: LLAMA_SHARDS,
  mixtral: MIXTRAL_SHARDS,
  gpt2: GPT2_SHARDS,
};

/** The tensors or parts that each rank gets. */
interface Sharing {
  /** A description for the output. */
  readonly what: string;
  /** Parts that each rank reads by itself. */
  readonly shardPlan?: ShardPlan;
  /** The dimension of the scattered parts; tensors without it are broadcast whole. */
  readonly dimension?: number;
}

/** The report of one rank on a load. */
interface RankReport {
  readonly rank: number;
  /** Seconds from the opening of the files to its last tensor. */
  readonly seconds: number;
  /** File bytes that it read. */
  readonly bytesRead: number;
  /** Bytes of the tensors in its memory. */
  readonly bytesHeld: number;
  readonly path: LoadStats["path"];
  readonly threads: number;
  readonly notes: readonly string[];
}

/** The result of a load of all ranks. */
interface Report {
  readonly tensors: number;
  /** Bytes of all tensors in their files. */
  readonly bytes: number;
  /** Seconds of the slowest rank. */
  readonly seconds: number;
  readonly gigabytesPerSecond: number;
  readonly device: string;
  /** Dtype in the files → dtype in memory. */
  readonly dtypes: InMemory["dtypes"];
  readonly ranks: readonly RankReport[];
}

/** Loads on all ranks; rank 0 prints the result. */
export async function loadTogether(
  args: Arguments,
  options: OpenOptions & CheckpointOptions,
  repeat: number,
): Promise<void> {
  const sharing = sharingOf(args.text("shard"));
  await using group = await MpiGroup.create();
  const runs: Report[] = [];
  while (runs.length < repeat) runs.push(await loadOnce(args, options, sharing, group));
  if (group.rank > 0) return;
  const median = medianOf(runs);
  if (args.flag("json")) {
    const { what } = sharing;
    const dtypes = Object.fromEntries(median.dtypes);
    const json = { size: group.size, library: group.family, shares: what, ...median, dtypes };
    console.log(JSON.stringify({ ...json, runs: runs.map((run) => run.seconds) }, null, 2));
  } else {
    console.log(summarize(median, describeRuns(runs, median), sharing, group));
  }
}

function sharingOf(shard: string | undefined): Sharing {
  if (shard === undefined) return { what: "every tensor, broadcast by the rank that read it" };
  const shardPlan = SHARD_PLANS[shard.toLowerCase()];
  if (shardPlan) {
    return { what: `its parts by the plan ${shard.toLowerCase()}, which it reads itself`, shardPlan };
  }
  if (!/^\d+$/.test(shard)) {
    const plans = Object.keys(SHARD_PLANS).join(", ");
    throw new UsageError(`--shard must be a dimension or one of the plans ${plans}, got ${quote(shard)}`);
  }
  return {
    what: `its part of dimension ${shard}, scattered by the rank that read it`,
    dimension: Number(shard),
  };
}

async function loadOnce(
  args: Arguments,
  options: OpenOptions & CheckpointOptions,
  { shardPlan, dimension }: Sharing,
  group: MpiGroup,
): Promise<Report> {
  const held: Tensor[] = [];
  using bar = new ProgressBar("Loading", { quiet: group.rank > 0 || args.flag("json") });
  await group.barrier();
  const start = performance.now();
  await using model = await openModel(args.inputs, {
    ...options,
    group,
    ...shardPlan ? { shardPlan } : {},
    onProgress: ({ bytes, totalBytes }) => bar.update(bytes, totalBytes), // of what this rank reads
  });
  requireTensors(model, args.list("names"));
  try {
    for await (const tensor of take(model, dimension)) held.push(tensor);
    const seconds = (performance.now() - start) / 1000;
    const { bytes: bytesRead, path, threads, notes, device } = model.stats();
    const bytesHeld = held.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const report = { rank: group.rank, seconds, bytesRead, bytesHeld, path, threads, notes };
    const ranks = await group.allGather(report) as unknown as RankReport[];
    const slowest = Math.max(...ranks.map((rank) => rank.seconds));
    const bytes = model.keys().reduce((sum, name) => sum + model.info(name).byteLength, 0);
    const gigabytesPerSecond = bytes / slowest / 1e9;
    const { dtypes } = inMemory(model);
    return {
      tensors: model.keys().length,
      bytes,
      seconds: slowest,
      gigabytesPerSecond,
      device,
      dtypes,
      ranks,
    };
  } finally {
    for (const tensor of held) tensor[Symbol.dispose]();
  }
}

/** The tensors or parts that this rank gets, one by one. */
async function* take(model: SafeTensorsModel<Tensor>, dimension: number | undefined): AsyncGenerator<Tensor> {
  if (dimension === undefined) {
    for await (const [, tensor] of model) yield tensor;
    return;
  }
  for (const name of model.keys()) {
    const has = dimension < model.info(name).shape.length;
    yield await (has ? model.getSharded(name, dimension) : model.getTensor(name));
  }
}

function summarize(report: Report, timing: string, { what }: Sharing, { size, family }: MpiGroup): string {
  const { tensors, bytes, device, dtypes, ranks } = report;
  const all = `${formatCount(tensors, "tensor")} of ${formatBytes(bytes)}`;
  const casts = describeCasts(dtypes);
  const lines = [
    `Loaded ${all} on ${formatCount(size, "rank")}${timing}`,
    `  to ${device} over ${family}${casts === "" ? "" : `, ${casts}`}; each rank has ${what}`,
  ];
  for (const { rank, bytesRead, bytesHeld, path, threads, notes } of ranks) {
    const way = path === null ? "" : `, ${path}, ${formatCount(threads, "thread")}`;
    lines.push(`  rank ${rank}: ${formatBytes(bytesRead)} read${way}; ${formatBytes(bytesHeld)} in memory`);
    for (const note of withoutEngine(notes)) lines.push(`    note: ${printable(note)}`);
  }
  return lines.join("\n");
}
