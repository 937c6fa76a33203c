/**
 * Segments of files that are read through a cache: what it has is read from there, and what has landed is recorded in it.
 */
import type { PlanFile, PlanMemory } from "../../../ffi/plan_memory.ts";
import { SystemError } from "../../../ffi/files.ts";
import type { CacheFile } from "../../files/cache/cache_file.ts";
import type { LaneFile } from "../../files/native/native_file.ts";
import type { Segment } from "../plan.ts";

/** Most runs of one segment that are recorded one by one: a line of a map costs as much as some bytes. */
const MOST_RUNS = 4096;

/** The files of a plan for lanes: those of a job, and behind them the caches of some. */
export class CachedSegments {
  readonly #files: readonly LaneFile[];
  /** File → index of its cache among the files for lanes. */
  readonly #places = new Map<number, number>();
  /** Segments that are read from a cache. */
  readonly #local = new Set<Segment>();

  constructor(files: readonly LaneFile[]) {
    this.#files = files;
  }

  /** Returns the files for lanes. */
  add(lent: readonly PlanFile[]): PlanFile[] {
    const files = [...lent];
    for (const [index, { cache, size }] of this.#files.entries()) {
      if (!cache || cache.fd === null) continue;
      this.#places.set(index, files.length);
      const { fd } = cache;
      files.push({ fd, fdDirect: -1, size, mtimeSeconds: 0n, mtimeNanoseconds: 0n, isPartial: true });
    }
    return files;
  }

  /** Returns the index of the file from which lanes read a segment. */
  fileOf(segment: Segment): number {
    const place = this.#places.get(segment.file);
    if (place === undefined || !this.#files[segment.file]!.cache!.has(segment.fileOffset, spanOf(segment))) {
      return segment.file;
    }
    this.#local.add(segment);
    return place;
  }

  /** Records a segment that has landed, from a server, in the cache of its file. */
  landed(segment: Segment, memory: PlanMemory): void {
    const { cache } = this.#files[segment.file]!;
    if (!cache?.isFilled || cache.fd === null || this.#local.has(segment)) return;
    const errno = memory.cacheErrno(segment.file);
    if (errno !== 0) return cache.stop(new SystemError(errno));
    recordRuns(cache, segment);
  }
}

/** Bytes from the first to the last one of a segment in the file. */
function spanOf({ run, outerCount, outerStride, innerCount, innerStride }: Segment): number {
  return (outerCount - 1) * outerStride + (innerCount - 1) * innerStride + run;
}

function recordRuns(cache: CacheFile, segment: Segment): void {
  const { fileOffset, run, outerCount, outerStride, innerCount, innerStride } = segment;
  if (outerCount * innerCount > MOST_RUNS) return;
  for (let outer = 0; outer < outerCount; outer++) {
    for (let inner = 0; inner < innerCount; inner++) {
      cache.landed(fileOffset + outer * outerStride + inner * innerStride, run);
    }
  }
}
