/**
 * Turns the samples of one delay into a table and into JSON.
 */
import { formatBytes, formatTable } from "../../src/cli/text.ts";
import { type Ratio, ratio } from "../latency/report.ts";
import { formatRatio, median } from "../side_by_side/report.ts";
import type { Sample } from "../side_by_side/sample.ts";

/** A contender: a variant of the C program, the best of which is the limit; this loader; a source of one's own. */
export interface Contender {
  readonly name: string;
  readonly role: "probe" | "this" | "own source";
}

/** The results of one contender. */
export interface Result extends Contender {
  /** Seconds of every turn, in their order. */
  readonly seconds: readonly number[];
  /** Bytes / median seconds / 1e9. */
  readonly gigabytesPerSecond: number;
  /** Rate / rate of the C program's best variant in the same turn. */
  readonly ofProbe: Ratio;
  /** Rate / rate of the source of one's own in the same turn. */
  readonly timesOwn: Ratio;
  /** The most memory besides the tensors, in bytes; null if it was not measured. */
  readonly beyond: number | null;
}

/** Summarizes the samples of each contender, in the order of the turns. */
export function evaluate(
  samples: ReadonlyMap<Contender, readonly Sample[]>,
  bytes: number,
): Result[] {
  const all = samples.entries().map(([{ name, role }, runs]) => {
    const beyond = runs.flatMap(({ beyondDestination }) => beyondDestination ?? []);
    const seconds = runs.map(({ seconds }) => seconds);
    return { name, role, seconds, beyond: beyond.length > 0 ? Math.max(...beyond) : null };
  }).toArray();
  const best = (role: Contender["role"]) =>
    all.filter((one) => one.role === role)
      .toSorted((a, b) => median(a.seconds) - median(b.seconds))[0]!.seconds;
  const probe = best("probe"), own = best("own source");
  return all.map((one) => ({
    ...one,
    gigabytesPerSecond: bytes / median(one.seconds) / 1e9,
    ofProbe: ratio(probe, one.seconds),
    timesOwn: ratio(own, one.seconds),
  }));
}

/** A table of one delay. */
export function formatResults(results: readonly Result[]): string {
  const format = ({ median, least, most }: Ratio) => formatRatio(median, [least, most]);
  const rows = results.map(({ name, gigabytesPerSecond, seconds, ofProbe, timesOwn, beyond }) => [
    name,
    gigabytesPerSecond.toFixed(2),
    `${median(seconds).toFixed(3)} s`,
    format(ofProbe),
    format(timesOwn),
    beyond === null ? "" : formatBytes(beyond),
  ]);
  const head = ["", "GB/s", "median", "of C", "x own source", "memory beyond"];
  return formatTable([head, ...rows], [1, 2, 3, 4, 5]);
}
