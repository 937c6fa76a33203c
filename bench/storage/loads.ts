/**
 * Whole loads of the same files through 3FS and by ordinary reads, in turns.
 */
import { fastsafeOpen, type OpenOptions } from "../../mod.ts";
import { formatTable } from "../../src/cli/text.ts";
import { median } from "../side_by_side/report.ts";

/** The results of one source. */
export interface LoadResult {
  readonly source: string;
  /** GB/s of every turn. */
  readonly rates: readonly number[];
  readonly median: number;
  /** The path of the bytes, and the number of lanes. */
  readonly way: string;
}

const SOURCES: Readonly<Record<string, OpenOptions>> = {
  "ordinary reads": { source: "file" },
  "3FS": { source: "3fs" },
};

/** Loads `paths` from each source so many times, after one warm-up turn. */
export async function compareLoads(paths: readonly string[], iterations: number): Promise<LoadResult[]> {
  const names = Object.keys(SOURCES);
  const rates = new Map(names.map((name) => [name, [] as number[]]));
  const ways = new Map<string, string>();
  for (let turn = 0; turn <= iterations; turn++) {
    for (let index = 0; index < names.length; index++) {
      const name = names[(index + turn) % names.length]!;
      await using model = await fastsafeOpen(paths, SOURCES[name]);
      await model.whenLoaded();
      const { path, threads, gigabytesPerSecond } = model.stats();
      ways.set(name, `${path}, ${threads} lanes`);
      if (turn > 0) rates.get(name)!.push(gigabytesPerSecond);
    }
  }
  return names.map((source) => {
    return { source, rates: rates.get(source)!, median: median(rates.get(source)!), way: ways.get(source)! };
  });
}

/** The results as a table, each compared with ordinary reads. */
export function formatLoads(results: readonly LoadResult[]): string {
  const rows = results.map(({ source, rates, median, way }) => [
    source,
    median.toFixed(2),
    `${Math.min(...rates).toFixed(2)} to ${Math.max(...rates).toFixed(2)}`,
    (median / results[0]!.median).toFixed(2),
    way,
  ]);
  return formatTable([["", "GB/s", "from to", "of ordinary reads", "way"], ...rows], [1, 2, 3]);
}
