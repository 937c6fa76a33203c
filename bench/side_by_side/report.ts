/**
 * Turns samples into a table and into JSON.
 */
import { formatBytes, formatCount, formatTable } from "../../src/cli/text.ts";
import type { CacheKind, Contender, Task } from "./contenders.ts";
import type { Sample } from "./sample.ts";

/** The results of one contender in one state of the page cache. */
export interface Result {
  readonly name: string;
  /** Whether it is a variant of the limit probe of its task. */
  readonly isLimit: boolean;
  /** What it does; "read" in results without it. */
  readonly task?: Task;
  /** Seconds of every turn, in their order. */
  readonly seconds: readonly number[];
  /** The median of the turns. */
  readonly median: number;
  /** Bytes that it reads of the files / median / 1e9. */
  readonly gigabytesPerSecond: number;
  /**
   * The limit's seconds / its seconds in the same turn: the median of the turns; null if no limit of its task took part.
   * In results without `spread` it is the median of the limit / this median.
   */
  readonly ofLimit: number | null;
  /** The lowest and the highest of these ratios. */
  readonly spread?: readonly [low: number, high: number] | null;
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
  const results = samples.entries().map(([contender, runs]) => {
    const seconds = runs.map((run) => run.seconds);
    const middle = median(seconds);
    const ways = runs.flatMap(({ path, threads }) =>
      path && threads ? [`${path}, ${formatCount(threads, "lane")}`] : []
    );
    return {
      name: contender.name,
      isLimit: contender.isLimit,
      task: contender.task ?? "read",
      seconds,
      median: middle,
      gigabytesPerSecond: (contender.bytes ?? bytes) / middle / 1e9,
      beyondDestination: worst(runs.map((run) => run.beyondDestination)),
      stall: worst(runs.map((run) => run.stall)),
      ways: [...new Set(ways)],
    };
  }).toArray();
  return results.map((result) => {
    const limit = limitOf(results, result.task);
    const ratios = limit && result.seconds.map((seconds, turn) => limit.seconds[turn]! / seconds);
    return {
      ...result,
      ofLimit: ratios && median(ratios),
      spread: ratios && [Math.min(...ratios), Math.max(...ratios)],
    };
  });
}

/** The variant of a task's limit probe with the lowest median; null if none took part. */
export function limitOf<R extends Pick<Result, "isLimit" | "task" | "median">>(
  results: readonly R[],
  task: Task,
): R | null {
  const variants = results.filter((result) => result.isLimit && (result.task ?? "read") === task);
  return variants.toSorted((a, b) => a.median - b.median)[0] ?? null;
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

/** A table of one state of the page cache; of each limit only the best variant. */
export function formatResults(results: readonly Result[]): string {
  const shown = results.filter((result) =>
    !result.isLimit || result === limitOf(results, result.task ?? "read")
  );
  const rows = shown.map((result) => [
    result.name,
    result.gigabytesPerSecond.toFixed(2),
    `${result.median.toFixed(3)} s`,
    formatRatio(result.ofLimit, result.isLimit ? null : result.spread),
    result.beyondDestination === null ? "" : formatBytes(result.beyondDestination),
    result.stall === null ? "" : `${result.stall.toFixed(1)} ms`,
    result.ways.join(" / "),
  ]);
  const head = ["", "GB/s", "median", "of limit", "memory beyond", "longest stall", "way"];
  return formatTable([head, ...rows], [1, 2, 3, 4, 5]);
}

/** A ratio, and the lowest and the highest if they are known: `0.90 (0.87–0.93)`. */
export function formatRatio(ratio: number | null | undefined, spread: Result["spread"]): string {
  const around = spread ? ` (${spread.map((end) => end.toFixed(2)).join("–")})` : "";
  return ratio === null || ratio === undefined ? "" : ratio.toFixed(2) + around;
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
