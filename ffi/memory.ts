/**
 * Huge pages for memory that another library maps. These functions do not keep memory alive: their calls are synchronous
 * and only advise the system on addresses. Calls that access memory while JavaScript continues (fst_lane_run,
 * fst_plan_populate) get the buffers as arguments: see `CallWindows` in src/load/native/native_lanes.ts.
 */
import type { Shim } from "./symbols.ts";

/** Addresses of memory: the first byte, and one after the last. */
export type MemoryRange = readonly [start: bigint, stop: bigint];

/** Least bytes of a range: a shorter one can lack an aligned huge page. */
const LEAST = 4n * 2n ** 20n;

/** Most mappings; skipped for processes with more. */
const MOST = 16_384;

/**
 * Runs a function that maps memory, such as a driver's allocation of a buffer, and requests huge pages for the new
 * mappings, which must not have been accessed before. This is advice only: it changes no memory that other threads map at
 * the same time, and a system can ignore it.
 */
export function withHugePages<R>(shim: Shim, map: () => R): R {
  const before = mappedRanges(shim);
  const result = map();
  const after = before && mappedRanges(shim);
  if (!after) return result;
  for (const [start, stop] of newRanges(before, after)) {
    if (stop - start >= LEAST) shim.fst_memory_advise(null, start, stop - start);
  }
  return result;
}

/** Returns the parts of `later` that are in no range of `earlier`; all lists are sorted by address. */
export function newRanges(earlier: readonly MemoryRange[], later: readonly MemoryRange[]): MemoryRange[] {
  const ranges: MemoryRange[] = [];
  let index = 0;
  for (const [start, stop] of later) {
    let at = start;
    while (at < stop) {
      while (index < earlier.length && earlier[index]![1] <= at) index++;
      const [knownStart, knownStop] = earlier[index] ?? [stop, stop];
      if (knownStart > at) ranges.push([at, knownStart < stop ? knownStart : stop]);
      at = knownStart < stop ? knownStop : stop;
    }
  }
  return ranges;
}

/** Returns the anonymous memory of this process, sorted by address; null if the system does not list it. */
function mappedRanges(shim: Shim): MemoryRange[] | null {
  const words = new BigUint64Array(2 * MOST);
  const count = Number(shim.fst_memory_mapped(words, BigInt(MOST)));
  if (count < 0 || count > MOST) return null;
  return Array.from({ length: count }, (_, index) => [words[2 * index]!, words[2 * index + 1]!]);
}
