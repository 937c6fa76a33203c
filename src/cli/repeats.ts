/**
 * The same load several times: which one counts, and how far the others are from it.
 */
import { formatRate } from "./text.ts";

/** What is known of a load. */
interface Run {
  readonly seconds: number;
  readonly gigabytesPerSecond: number;
}

/** The load in the middle; of the two in the middle of an even number the slower one. */
export function medianOf<R extends Run>(runs: readonly R[]): R {
  return runs.toSorted((a, b) => a.seconds - b.seconds)[runs.length >> 1]!;
}

/** That the figures above are a median, and of what; nothing of one load. */
export function describeRepeats(runs: readonly Run[]): string[] {
  if (runs.length === 1) return [];
  return [
    `  the median of ${runs.length} loads: ${
      runs.map((run) => formatRate(run.gigabytesPerSecond)).join(", ")
    }`,
  ];
}
