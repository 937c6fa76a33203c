/**
 * The results of the side-by-side benchmarks in one form: the rate of each contender, and its ratio to the limit.
 */
import { formatBytes, formatCount } from "../../src/cli/text.ts";
import type { Task } from "../side_by_side/contenders.ts";
import type { GpuReport } from "../gpu/report.ts";
import { limitOf, type Measurement, type Report as LoadReport, type Result } from "../side_by_side/report.ts";

/** The rate of one contender. */
export interface Entry {
  readonly name: string;
  /** True for this package. */
  readonly isOurs: boolean;
  readonly gigabytesPerSecond: number;
  /** Its rate / the rate that it is compared with; null without a comparison. */
  readonly ratio: number | null;
  /** The lowest and the highest ratio of a turn. */
  readonly spread?: Result["spread"];
}

/** Measurements under the same conditions. */
export interface Panel {
  /** The conditions. */
  readonly title: string;
  /** GB/s of the machine; null if not measured. */
  readonly limit: number | null;
  readonly entries: readonly Entry[];
}

/** A side-by-side. */
export interface Comparison {
  /** Of the file of results, and of the chart. */
  readonly name: string;
  readonly title: string;
  /** The name of the ratio in a table. */
  readonly ratio: string;
  /** How to read the figures. */
  readonly note: string;
  readonly source: Measurement;
  readonly panels: readonly Panel[];
}

/** The results of one contender of `bench:save`. */
interface SaveResult {
  readonly name: string;
  readonly role: "limit" | "this" | "reference";
  readonly gigabytesPerSecond: number;
  readonly ofLimit: number;
}
interface SaveReport extends Measurement {
  readonly bytes: number;
  readonly results: Partial<Record<"synced" | "not synced", readonly SaveResult[]>>;
}
interface RanksReport extends Measurement {
  readonly bytes: number;
  readonly results: readonly { name: string; gigabytesPerSecond: number; ratio: number | null }[];
}
/** The results of `bench:webgpu`. */
export interface WebGpuReport extends Measurement {
  readonly adapter: { readonly name: string; readonly isSoftware: boolean };
  readonly results: readonly { name: string; gigabytesPerSecond: number; ofNaive: number }[];
}

const OURS = /^this (loader|saver)/;

/** The tasks whose limit has a row among the contenders, before those that it limits. */
const LIMIT_NAMES: Readonly<Record<Exclude<Task, "read">, string>> = {
  cast: "limit of the cast",
  columns: "limit of the columns",
};

/** How to read ratios with a spread. */
const PAIRED =
  " A ratio compares times of the same turn: the median of the turns, the lowest and the highest. " +
  "The cast and the columns have limits of their own, C programs that do the same with the best code, and count the " +
  "bytes that they read.";

/** `bench:side-by-side`. */
export function compareLoads(report: LoadReport): Comparison {
  const titles = { hot: "In the page cache", cold: "Not in the page cache" } as const;
  const { bytes, files } = report.data;
  const isPaired = Object.values(report.results).flat().some(({ spread }) => spread);
  return {
    name: "side_by_side",
    title: `Loading ${formatBytes(bytes)} in ${formatCount(files, "file")} to the CPU`,
    ratio: "of limit",
    note:
      "The limit is a C program that only reads. Each contender runs in a new process and reads into memory that " +
      "the system has made available beforehand. GB/s count the bytes of the files; the cast writes twice as many." +
      (isPaired ? PAIRED : ""),
    source: report,
    panels: (["hot", "cold"] as const).flatMap((kind) => {
      const results = report.results[kind];
      if (!results) return [];
      const limit = limitOf(results, "read")?.gigabytesPerSecond ?? null;
      return [{ title: titles[kind], limit, entries: entriesOf(results) }];
    }),
  };
}

/** The contenders, each task together, and before them the limit of their task if it has a name. */
function entriesOf(results: readonly Result[]): Entry[] {
  return (["read", "cast", "columns"] as const).flatMap((task) => {
    const limit = task === "read" ? null : limitOf(results, task);
    const entries = results.filter((result) => !result.isLimit && (result.task ?? "read") === task)
      .map((result) => ({ ...result, ratio: result.ofLimit, isOurs: OURS.test(result.name) }));
    if (task === "read" || limit === null) return entries;
    return [{ ...limit, name: LIMIT_NAMES[task], ratio: 1, spread: null, isOurs: false }, ...entries];
  });
}

/** `bench:save`. */
export function compareSaves(report: SaveReport): Comparison {
  const titles = { "synced": "Waiting for storage", "not synced": "Not waiting for storage" } as const;
  return {
    name: "save",
    title: `Saving ${formatBytes(report.bytes)} from memory`,
    ratio: "of limit",
    note: "The limit is a C program that only writes.",
    source: report,
    panels: (["synced", "not synced"] as const).flatMap((kind) => {
      const results = report.results[kind];
      if (!results) return [];
      const entries = results.filter(({ role }) => role !== "limit")
        .map((result) => ({ ...result, ratio: result.ofLimit, isOurs: result.role === "this" }));
      const limit = fastest(results.filter(({ role }) => role === "limit"));
      return [{ title: titles[kind], limit, entries }];
    }),
  };
}

/** `bench:ranks`: a ratio is to the C program, or to one process. */
export function compareRanks(report: RanksReport): Comparison {
  const entries = report.results.map((result) => ({ ...result, isOurs: result.ratio !== null }));
  return {
    name: "ranks",
    title: `Ranks on one machine, a model of ${formatBytes(report.bytes)}`,
    ratio: "ratio",
    note:
      "The ratio of a broadcast is to the C program. The ratio of ranks that read their own parts is to one process, " +
      "by the bytes of all parts together. The rows of a part lie together in the file; its columns are a few " +
      "kilobytes in each row, for which the kernel needs about twice the time per byte.",
    source: report,
    panels: [{ title: "In the page cache", limit: null, entries }],
  };
}

/** `bench:gpu`. */
export function compareGpu(report: GpuReport): Comparison {
  const titles = { hot: "In the page cache", cold: "Not in the page cache" } as const;
  const { bytes, files } = report.data;
  return {
    name: "gpu",
    title: `Loading ${formatBytes(bytes)} in ${formatCount(files, "file")} to a GPU: ${report.gpu.name}`,
    ratio: "of limit",
    note:
      "The limit is the slower one of two C programs: one only reads the files, the other only copies from pinned " +
      "memory to the GPU. Each contender runs in a new process that has a context of the GPU already.",
    source: report,
    panels: (["hot", "cold"] as const).flatMap((kind) => {
      const results = report.results[kind];
      if (!results) return [];
      const best = (["copy", "read"] as const).map((limit) =>
        fastest(results.filter((result) => result.limit === limit))
      ).filter((rate) => rate !== null);
      const entries = results.filter(({ limit }) => limit === null)
        .map((result) => ({ ...result, ratio: result.ofLimit, isOurs: OURS.test(result.name) }));
      return [{ title: titles[kind], limit: best.length > 0 ? Math.min(...best) : null, entries }];
    }),
  };
}

/** `bench:webgpu`. */
export function compareWebGpu(report: WebGpuReport): Comparison {
  const { name, isSoftware } = report.adapter;
  const entries = report.results.map((result) => ({
    ...result,
    ratio: result.ofNaive,
    isOurs: OURS.test(result.name),
  }));
  return {
    name: "webgpu",
    title: `Loading to WebGPU: ${name}${isSoftware ? ", in software" : ""}`,
    ratio: "× naive",
    note: "For the queue alone the bytes are in memory already.",
    source: report,
    panels: [{ title: "In the page cache", limit: null, entries }],
  };
}

function fastest(results: readonly { gigabytesPerSecond: number }[]): number | null {
  const rates = results.map(({ gigabytesPerSecond }) => gigabytesPerSecond);
  return rates.length > 0 ? Math.max(...rates) : null;
}
