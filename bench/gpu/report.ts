/**
 * Turns samples on a GPU into a table and into JSON.
 */
import { formatBytes, formatTable } from "../../src/cli/text.ts";
import type { CacheKind } from "../side_by_side/contenders.ts";
import { evaluate, type Measurement, median, type Result } from "../side_by_side/report.ts";
import type { Sample } from "../side_by_side/sample.ts";
import type { GpuContender, LimitKind } from "./contenders.ts";
import type { GpuSample } from "./this_loader.ts";

/** The results of one contender. */
export interface GpuResult extends Omit<Result, "ofLimit"> {
  /** The limit of which it is a variant; null for loaders. */
  readonly limit: LimitKind | null;
  /** Seconds that the slower of the two ways takes at its best / this median. */
  readonly ofLimit: number;
  /** The median of the seconds to the first tensor / this median; null if not measured. */
  readonly firstTensor: number | null;
}

/** Everything that is written as JSON. */
export interface GpuReport extends Measurement {
  /** The GPU, and the versions of CUDA, as `doctor` reports them. */
  readonly gpu: { readonly name: string; readonly [key: string]: unknown };
  readonly data: { readonly files: number; readonly bytes: number };
  readonly results: Partial<Record<CacheKind, readonly GpuResult[]>>;
}

/** Summarizes the samples of each contender, in one state of the page cache. */
export function evaluateGpu(
  samples: ReadonlyMap<GpuContender, readonly Sample[]>,
  bytes: number,
): GpuResult[] {
  const contenders = [...samples.keys()];
  const results = evaluate(samples, bytes);
  const best = (kind: LimitKind) =>
    Math.min(
      ...results.filter((_, index) => contenders[index]!.limit === kind).map((result) => result.median),
    );
  // All bytes pass both paths, at the same time: the slower one limits the rate.
  const least = Math.max(best("copy"), best("read"));
  return results.map((result, index) => {
    const contender = contenders[index]!;
    const firsts = samples.get(contender)!.flatMap((run) => (run as Partial<GpuSample>).firstTensor ?? []);
    const firstTensor = firsts.length > 0 ? median(firsts) / result.median : null;
    const ofLimit = least / result.median;
    return { ...result, limit: contender.limit, ofLimit, spread: null, firstTensor };
  });
}

/** A table of one state of the page cache; of each limit only the best variant. */
export function formatGpuResults(results: readonly GpuResult[]): string {
  const best = (kind: LimitKind) =>
    results.filter(({ limit }) => limit === kind).toSorted((a, b) => a.median - b.median)[0];
  const shown = results.filter((result) => result.limit === null || result === best(result.limit));
  const rows = shown.map((result) => [
    result.name,
    result.gigabytesPerSecond.toFixed(2),
    `${result.median.toFixed(3)} s`,
    result.limit ? "" : result.ofLimit.toFixed(2),
    result.firstTensor === null ? "" : `${(100 * result.firstTensor).toFixed(1)} %`,
    result.beyondDestination === null ? "" : formatBytes(result.beyondDestination),
    result.stall === null ? "" : `${result.stall.toFixed(1)} ms`,
    result.ways.join(" / "),
  ]);
  const head = ["", "GB/s", "median", "of limit", "first tensor", "host memory", "longest stall", "way"];
  return formatTable([head, ...rows], [1, 2, 3, 4, 5, 6]);
}
