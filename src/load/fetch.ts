/**
 * Fills the cache of remote files: reads ranges of them and drops the bytes, which the cache keeps.
 */
import type { ByteRange } from "../files/cache/ranges.ts";
import type { SourceFile } from "../files/source.ts";
import { Blocks, type Engine, type HostBlock } from "./engine.ts";
import { planLoad } from "./plan.ts";
import { Readiness } from "./readiness.ts";

/** Ranges of a file. */
export interface FileRanges {
  readonly file: SourceFile;
  /** In the order of the file, without overlaps. */
  readonly ranges: readonly ByteRange[];
}

/** Options of {@linkcode fetchRanges}. */
export interface FetchOptions {
  readonly signal: AbortSignal;
  /** Lanes; default is the engine's. */
  readonly maxThreads?: number | undefined;
  /** Called with the bytes that have come so far. */
  readonly onProgress?: (bytes: number) => void;
}

/** Bytes of one read: on a network larger reads are faster, as each waits for its first byte. */
const BLOCK = 8 * 2 ** 20;

/** Bytes of one run of the engine, and the runs at once: the next one starts before the slowest read of one has ended. */
const BATCH = 64 * 2 ** 20, RUNS = 2;

/**
 * Reads ranges of files and drops their bytes.
 *
 * @throws as {@linkcode Engine.run}; or the signal's reason
 */
export async function fetchRanges(
  engine: Engine,
  wanted: readonly FileRanges[],
  { signal, maxThreads, onProgress }: FetchOptions,
): Promise<void> {
  const batches = batchesOf(wanted);
  const failed = new AbortController();
  const ending = AbortSignal.any([signal, failed.signal]);
  const done = new Array<number>(RUNS).fill(0);
  let finished = 0;
  const run = async (index: number): Promise<void> => {
    let block: HostBlock | undefined;
    for (const batch of batches) { // both runs take batches from one generator
      ending.throwIfAborted();
      const plan = planLoad(requestsOf(batch.ranges), { blockBytes: BLOCK, shareBelowBytes: 0 });
      const blocks = plan.allocations.map((bytes, allocation) => {
        if (allocation > 0 || bytes > BATCH + BLOCK) return engine.allocate(bytes);
        return block ??= engine.allocate(BATCH + BLOCK);
      });
      await engine.run({
        plan,
        files: [batch.file],
        blocks: Blocks.of(blocks),
        readiness: Readiness.of(plan),
        maxThreads,
        stagingBytes: BATCH,
        blockBytes: BLOCK,
        signal: ending,
        onLanded(bytes) {
          done[index] = bytes;
          onProgress?.(finished + done.reduce((sum, bytes) => sum + bytes, 0));
        },
      });
      done[index] = 0;
      finished += plan.bytes;
    }
  };
  const runs = Array.from({ length: RUNS }, (_, index) =>
    run(index).catch((error) => {
      failed.abort(error); // the other run ends, too
      throw error;
    }));
  await Promise.allSettled(runs);
  ending.throwIfAborted();
}

/** Yields the ranges in batches, each of one file. */
function* batchesOf(wanted: readonly FileRanges[]): Generator<FileRanges> {
  for (const { file, ranges } of wanted) {
    let batch: ByteRange[] = [], bytes = 0;
    for (const { start, stop } of ranges) {
      for (let at = start; at < stop;) {
        const next = Math.min(stop, at + BATCH - bytes);
        batch.push({ start: at, stop: next });
        bytes += next - at;
        at = next;
        if (bytes < BATCH) continue;
        yield { file, ranges: batch };
        batch = [];
        bytes = 0;
      }
    }
    if (batch.length > 0) yield { file, ranges: batch };
  }
}

function requestsOf(ranges: readonly ByteRange[]) {
  return ranges.map(({ start, stop }) => ({
    name: `bytes ${start} to ${stop}`,
    shape: [stop - start],
    dtype: "U8" as const,
    target: "U8" as const,
    file: 0,
    fileOffset: start,
    run: stop - start,
    levels: [],
  }));
}
