/**
 * Repeated loads: the median and the spread.
 */
import { formatRate } from "./text.ts";

/** The facts of one load that this needs. */
interface Run {
  readonly seconds: number;
  readonly gigabytesPerSecond: number;
}

/** The median load; for an even number of loads the slower of the two in the middle. */
export function medianOf<R extends Run>(runs: readonly R[]): R {
  return runs.toSorted((a, b) => a.seconds - b.seconds)[runs.length >> 1]!;
}

/** Says that the figures are a median, and of which loads; empty for one load. */
export function describeRepeats(runs: readonly Run[]): string[] {
  if (runs.length === 1) return [];
  return [
    `  the median of ${runs.length} loads: ${
      runs.map((run) => formatRate(run.gigabytesPerSecond)).join(", ")
    }`,
  ];
}
