/**
 * Huge pages for memory that somebody else maps. Nothing here keeps memory alive: the calls are synchronous, and give the
 * system advice on addresses. Calls that touch memory while JavaScript goes on (fst_lane_run, fst_plan_populate) are given
 * the buffers themselves, which Deno keeps until the call has returned: see `Windows` in src/load/native/native_lanes.ts.
 */
import type { Shim } from "./symbols.ts";

/** Addresses of memory: the first byte, and one after the last. */
export type MemoryRange = readonly [start: bigint, stop: bigint];

/** A shorter range may contain no aligned huge page. */
const LEAST = 4n * 2n ** 20n;

/** Ranges that are looked at; skipped for a process with more. */
const MOST = 16_384;

/**
 * Runs what maps memory, as a driver does for a buffer, and asks for huge pages for what is new. This must come before
 * the memory is touched for the first time. It is advice only: other memory that was mapped at the same time keeps its
 * contents, and a system that takes no advice changes nothing.
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

/** What of the later ranges is in none of the earlier ones; both are in order of addresses, and so is this. */
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

/** The anonymous memory of this process, in order of addresses; null where the system does not list it. */
function mappedRanges(shim: Shim): MemoryRange[] | null {
  const words = new BigUint64Array(2 * MOST);
  const count = Number(shim.fst_memory_mapped(words, BigInt(MOST)));
  if (count < 0 || count > MOST) return null;
  return Array.from({ length: count }, (_, index) => [words[2 * index]!, words[2 * index + 1]!]);
}
