/**
 * Turns the samples of one delay into a table and into JSON.
 */
import { formatTable } from "../../src/cli/text.ts";
import { formatRatio, median } from "../side_by_side/report.ts";
import type { Sample } from "../side_by_side/sample.ts";
import type { Contender } from "./contenders.ts";

/** How many times faster than few requests the probe must be: otherwise latency is not what limits the readers. */
export const LEAST_GAIN = 3;

/** Ratios within the turns. */
export interface Ratio {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** The results of one contender. */
export interface Result {
  readonly name: string;
  readonly role: Contender["role"];
  /** Seconds of every turn, in their order. */
  readonly seconds: readonly number[];
  /** Bytes / median seconds / 1e9. */
  readonly gigabytesPerSecond: number;
  /** Rate / rate of the probe's best variant in the same turn. */
  readonly ofProbe: Ratio;
  /** Rate / rate of the reader with few requests in the same turn. */
  readonly timesFew: Ratio;
  /** The loader's paths in the turns. */
  readonly ways: readonly string[];
}

/** Summarizes the samples of each contender, in the order of the turns. */
export function evaluate(
  samples: ReadonlyMap<Pick<Contender, "name" | "role">, readonly Sample[]>,
  bytes: number,
): Result[] {
  const all = samples.entries().map(([contender, runs]) => ({
    contender,
    seconds: runs.map(({ seconds }) => seconds),
    ways: [...new Set(runs.flatMap(({ path, threads }) => path ? [`${path}, ${threads} lanes`] : []))],
  })).toArray();
  const best = (role: Contender["role"]) =>
    all.filter(({ contender }) => contender.role === role)
      .toSorted((a, b) => median(a.seconds) - median(b.seconds))[0]!.seconds;
  const probe = best("probe"), few = best("few requests");
  return all.map(({ contender: { name, role }, seconds, ways }) => ({
    name,
    role,
    seconds,
    gigabytesPerSecond: bytes / median(seconds) / 1e9,
    ofProbe: ratio(probe, seconds),
    timesFew: ratio(few, seconds),
    ways,
  }));
}

/** Ratios of rates, each of the same turn. */
export function ratio(of: readonly number[], seconds: readonly number[]): Ratio {
  const values = seconds.map((those, turn) => of[turn]! / those);
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** How many times faster the probe's best variant is than few requests. */
function gainOf(results: readonly Result[]): number {
  return Math.max(...results.filter(({ role }) => role === "probe").map(({ timesFew }) => timesFew.median));
}

/** Says whether the figures of a delay show anything. */
export function verdict(results: readonly Result[]): string {
  const gain = gainOf(results);
  const times = `the probe is ${gain.toFixed(1)} × as fast as the reader with few requests`;
  return gain >= LEAST_GAIN
    ? `These figures count: ${times}`
    : `These figures show nothing: ${times}, less than ${LEAST_GAIN} ×: something else than latency limits it`;
}

/** A table of one delay. */
export function formatResults(results: readonly Result[]): string {
  const format = ({ median, least, most }: Ratio) => formatRatio(median, [least, most]);
  const rows = results.map(({ name, gigabytesPerSecond, seconds, ofProbe, timesFew, ways }) => [
    name,
    gigabytesPerSecond.toFixed(2),
    `${median(seconds).toFixed(3)} s`,
    format(ofProbe),
    format(timesFew),
    ways.join(" / "),
  ]);
  const head = ["", "GB/s", "median", "of the probe", "x few requests", "way"];
  return formatTable([head, ...rows], [1, 2, 3, 4]);
}
