/**
 * Repeated loads: the median and the spread.
 */
import { formatRate, formatSeconds } from "./text.ts";

/** The facts of one load that this needs. */
interface Run {
  readonly bytes: number;
  readonly seconds: number;
  readonly gigabytesPerSecond: number;
}

/**
 * The median load. For an even number of loads it is the slower of the two in the middle, with the mean of their
 * seconds.
 */
export function medianOf<R extends Run>(runs: readonly R[]): R {
  const sorted = runs.toSorted((a, b) => a.seconds - b.seconds);
  const slower = sorted[runs.length >> 1]!, faster = sorted[(runs.length - 1) >> 1]!;
  if (slower === faster) return slower;
  const seconds = (slower.seconds + faster.seconds) / 2;
  return { ...slower, seconds, gigabytesPerSecond: slower.bytes / seconds / 1e9 };
}

/** The end of a sentence on loads: the time and rate of the only load, or of the median with the slowest and fastest. */
export function describeRuns(runs: readonly Run[], { seconds, gigabytesPerSecond }: Run): string {
  const rate = formatRate(gigabytesPerSecond);
  if (runs.length === 1) return ` in ${formatSeconds(seconds)}: ${rate}`;
  const rates = runs.map((run) => run.gigabytesPerSecond);
  const spread = `from ${formatRate(Math.min(...rates))} to ${formatRate(Math.max(...rates))}`;
  return `, median of ${runs.length} loads: ${formatSeconds(seconds)}, ${rate}, ${spread}`;
}
