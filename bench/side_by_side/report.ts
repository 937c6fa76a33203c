/**
 * Turns samples into a table and into JSON.
 */
import { formatBytes, formatCount, formatTable } from "../../src/cli/text.ts";
import type { CacheKind, Contender } from "./contenders.ts";
import type { Sample } from "./sample.ts";

/** The results of one contender in one state of the page cache. */
export interface Result {
  readonly name: string;
  /** Whether it is a variant of the limit probe. */
  readonly isLimit: boolean;
  /** Seconds of every turn, in their order. */
  readonly seconds: readonly number[];
  /** The median of the turns. */
  readonly median: number;
  /** Bytes of the files / median / 1e9. */
  readonly gigabytesPerSecond: number;
  /** The median of the limit / this median; null if the limit did not take part. */
  readonly ofLimit: number | null;
  /** The worst turn's peak memory without the destination, in bytes. */
  readonly beyondDestination: number | null;
  /** The worst turn's longest stall of the event loop, in milliseconds. */
  readonly stall: number | null;
  /** The loader's paths in the turns, and the numbers of lanes. */
  readonly ways: readonly string[];
}

/** Date and machine of a measurement. */
export interface Measurement {
  readonly made: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly turns: number;
}

/** Everything that is written as JSON. */
export interface Report extends Measurement {
  readonly data: { readonly files: number; readonly bytes: number };
  readonly results: Partial<Record<CacheKind, readonly Result[]>>;
}

/** Summarizes the samples of each contender, in the order of the turns. */
export function evaluate(samples: ReadonlyMap<Contender, readonly Sample[]>, bytes: number): Result[] {
  const medians = new Map(
    samples.entries().map(([one, runs]) => [one, median(runs.map((run) => run.seconds))]),
  );
  const limits = medians.entries().filter(([one]) => one.isLimit).map(([, seconds]) => seconds).toArray();
  const limit = limits.length > 0 ? Math.min(...limits) : null;
  return samples.entries().map(([contender, runs]) => {
    const middle = medians.get(contender)!;
    const ways = runs.flatMap(({ path, threads }) =>
      path && threads ? [`${path}, ${formatCount(threads, "lane")}`] : []
    );
    return {
      name: contender.name,
      isLimit: contender.isLimit,
      seconds: runs.map((run) => run.seconds),
      median: middle,
      gigabytesPerSecond: bytes / middle / 1e9,
      ofLimit: limit === null ? null : limit / middle,
      beyondDestination: worst(runs.map((run) => run.beyondDestination)),
      stall: worst(runs.map((run) => run.stall)),
      ways: [...new Set(ways)],
    };
  }).toArray();
}

/** The middle one; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = (sorted.length - 1) / 2;
  return (sorted[Math.floor(half)]! + sorted[Math.ceil(half)]!) / 2;
}

function worst(values: readonly (number | undefined)[]): number | null {
  const known = values.filter((value) => value !== undefined);
  return known.length > 0 ? Math.max(...known) : null;
}

/** A table of one state of the page cache; of the limit only the best variant. */
export function formatResults(results: readonly Result[]): string {
  const [best] = results.filter(({ isLimit }) => isLimit).sort((a, b) => a.median - b.median);
  const shown = results.filter((result) => result === best || !result.isLimit);
  const rows = shown.map((result) => [
    result.name,
    result.gigabytesPerSecond.toFixed(2),
    `${result.median.toFixed(3)} s`,
    result.ofLimit === null ? "" : result.ofLimit.toFixed(2),
    result.beyondDestination === null ? "" : formatBytes(result.beyondDestination),
    result.stall === null ? "" : `${result.stall.toFixed(1)} ms`,
    result.ways.join(" / "),
  ]);
  const head = ["", "GB/s", "median", "of limit", "memory beyond", "longest stall", "way"];
  return formatTable([head, ...rows], [1, 2, 3, 4, 5]);
}

/** The measured machine. */
export async function describeMachine(): Promise<Record<string, string | number>> {
  const read = (path: string) => Deno.readTextFile(path).catch(() => "");
  const { total } = Deno.systemMemoryInfo();
  return {
    processor: /^model name\s*: (.*)$/m.exec(await read("/proc/cpuinfo"))?.[1] ?? Deno.build.arch,
    cores: navigator.hardwareConcurrency,
    memory: total,
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
  };
}
