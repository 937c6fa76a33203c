/**
 * The plan of a load: segments, each a range of a file with its place in memory, in the order in which the lanes
 * take them. These functions are pure: they access no file.
 */
import { type DType, dtypeBits, DTYPES } from "../base/dtype.ts";
import type { FileSegment } from "../base/file_segment.ts";
import type { Level } from "../base/levels.ts";
import { finishNow, type Steps } from "../base/steps.ts";
import { runOffsets } from "../format/strided.ts";
import { type Layout, type LayoutOptions, layoutSteps, PAGE, type Placements, type Run } from "./layout.ts";
import { castLength, requestBytes, RequestTable, type TensorRequest } from "./request.ts";

/** One piece of work of a lane: runs of a file, and their place in memory. */
export interface Segment extends FileSegment {
  /** Index of the allocation. */
  readonly allocation: number;
  /** Byte offset in it. */
  readonly offset: number;
  /** The first request that it serves. */
  readonly firstRequest: number;
  /** One after the last request it serves. */
  readonly stopRequest: number;
}

/** Options of a plan. */
export interface PlanOptions extends LayoutOptions {
  /** Bytes of one segment at most, a multiple of {@linkcode PAGE}. */
  blockBytes: number;
  /**
   * Returns where a contiguous range of a file should be cut, behind `at` and at most at `stop`: between bytes that are
   * read in different ways. Default: nowhere.
   */
  cut?: ((file: number, at: number, stop: number) => number) | undefined;
}

/** A load, ready to run. */
export interface LoadPlan {
  /** The requests, sorted by file and offset; the other lists have the same order. */
  readonly requests: RequestTable;
  /** The place of each request's bytes. */
  readonly placements: Placements;
  /** Bytes of each allocation. */
  readonly allocations: readonly number[];
  /** The segments in the order in which the lanes read them: by allocation, then offset. */
  readonly segments: readonly Segment[];
  /** File bytes that all segments deliver. */
  readonly bytes: number;
}

/**
 * The longest gap after a run of `bytes` that is read together with the runs on both sides (native/core/land.c has the same
 * figures).
 */
export function readThroughGap(bytes: number): number {
  return Math.min(Math.max(1024, 16 * bytes), 16 * 1024);
}

/**
 * Plans a load.
 *
 * @param requests in any order; the plan sorts them by file and offset
 * @throws {RangeError} if `blockBytes` is not a positive multiple of {@linkcode PAGE}
 */
export function planLoad(requests: readonly TensorRequest[], options: PlanOptions): LoadPlan {
  return finishNow(planSteps(finishNow(RequestTable.of(requests)), options));
}

/** {@linkcode planLoad} in steps, for very many tensors. */
export function* planSteps(requests: RequestTable, options: PlanOptions): Steps<LoadPlan> {
  const { blockBytes } = options;
  if (!Number.isSafeInteger(blockBytes) || blockBytes < PAGE || blockBytes % PAGE !== 0) {
    throw new RangeError(
      `Cannot plan a load: blockBytes must be a positive multiple of ${PAGE}, got ${blockBytes}`,
    );
  }
  const bytes = yield* requests.bytesSteps();
  const layout: Layout = yield* layoutSteps(requests, options);
  const segments: Segment[] = [];
  for (const run of layout.runs) {
    yield;
    if (requests.strided.has(run.first)) cutStrided(segments, requests.at(run.first), run, blockBytes);
    else cutRange(segments, requests, layout.placements, run, options);
  }
  return {
    requests,
    placements: layout.placements,
    allocations: layout.allocations,
    segments,
    bytes,
  };
}

/** File bytes that a segment delivers. */
export function segmentBytes(segment: Segment): number {
  return segment.run * segment.outerCount * segment.innerCount;
}

/**
 * Returns the request of a segment that has the byte at a file offset; undefined if the segment serves several and none has
 * it.
 */
export function requestAt(
  plan: LoadPlan,
  { firstRequest, stopRequest }: Segment,
  offset: number,
): number | undefined {
  if (stopRequest - firstRequest === 1) return firstRequest;
  const { fileOffsets, byteLengths } = plan.requests;
  for (let index = firstRequest; index < stopRequest; index++) {
    const start = fileOffsets[index]!;
    if (offset >= start && offset < start + byteLengths[index]!) return index;
  }
  return undefined;
}

/** Bytes of the file that are whole elements of every dtype, and whole words at every destination. */
const CAST_UNIT = 192;

/** Bytes of one block of a cast run: whole elements in the file, and whole words at the destination. */
function castBlock(blockBytes: number, from: DType): number {
  return dtypeBits(from) === 6 ? blockBytes - blockBytes % 12 : blockBytes;
}

/**
 * Cuts a contiguous run at page boundaries of the file where a block of the allocation begins. Two lanes that touch the
 * same huge page at once make the kernel clear two pages and discard one. With blocks that began one small page before a
 * huge page, this happened for every third huge page, and a load took a quarter longer.
 */
function cutRange(
  segments: Segment[],
  requests: RequestTable,
  placements: Placements,
  run: Run,
  { blockBytes, cut, alignment = 1 }: PlanOptions,
): void {
  const from = DTYPES[requests.dtypes[run.first]!]!, to = requests.target(run.first);
  const cast = from !== to;
  const file = requests.files[run.first]!;
  const start = requests.fileOffsets[run.first]!;
  const stop = requests.fileOffsets[run.stop - 1]! + requests.byteLengths[run.stop - 1]!;
  const castStep = castBlock(blockBytes, from);
  const shift = run.offset - start;
  const origin = shift % PAGE === 0 ? -shift : 0; // file offset from which blocks are counted
  const unit = cast ? CAST_UNIT : alignment;
  let firstRequest = run.first;
  for (let at = start; at < stop;) {
    // Cuts of a cast run are counted from its start, so that every cut is between two elements.
    let next = Math.min(
      stop,
      cast ? at + castStep : origin + (Math.floor((at - origin) / blockBytes) + 1) * blockBytes,
    );
    const wanted = cut?.(file, at, next) ?? next;
    if (wanted < next) {
      const before = start + Math.floor((wanted - start) / unit) * unit;
      if (before > at) next = before;
    }
    const offset = run.offset + castLength(at - start, from, to);
    const endOffset = run.offset + castLength(next - start, from, to);
    while (placements.end(firstRequest) <= offset) firstRequest++;
    let stopRequest = firstRequest + 1;
    while (stopRequest < run.stop && placements.offsets[stopRequest]! < endOffset) stopRequest++;
    segments.push({
      file,
      fileOffset: at,
      run: next - at,
      outerCount: 1,
      outerStride: 0,
      innerCount: 1,
      innerStride: 0,
      from: cast ? from : "U8",
      to: cast ? to : "U8",
      allocation: run.allocation,
      offset,
      firstRequest,
      stopRequest,
    });
    at = next;
  }
}

/** Cuts one strided request into segments of two levels; each reads about one block. */
function cutStrided(segments: Segment[], request: TensorRequest, run: Run, blockBytes: number): void {
  if (requestBytes(request) === 0) return;
  if (request.run > blockBytes) return cutLongRuns(segments, request, run, blockBytes);
  const { inner, outer, rest } = splitLevels(request, blockBytes);
  const rowBytes = request.run * inner.count;
  const rowSpan = inner.count > 1 ? (inner.count - 1) * inner.stride + request.run : request.run;
  const throughGaps = outer.stride - rowSpan <= readThroughGap(rowSpan);
  const rowsAtOnce = Math.max(1, Math.floor(blockBytes / (throughGaps ? outer.stride : rowSpan)));
  const base = {
    file: request.file,
    from: request.dtype,
    to: request.target,
    allocation: run.allocation,
    firstRequest: run.first,
    stopRequest: run.stop,
  };
  let offset = run.offset;
  for (const start of runOffsets(request.fileOffset, rest)) {
    for (let row = 0; row < outer.count; row += rowsAtOnce) {
      const outerCount = Math.min(rowsAtOnce, outer.count - row);
      segments.push({
        ...base,
        fileOffset: start + row * outer.stride,
        run: request.run,
        outerCount,
        outerStride: outer.stride,
        innerCount: inner.count,
        innerStride: inner.stride,
        offset,
      });
      offset += castLength(rowBytes * outerCount, request.dtype, request.target);
    }
  }
}

/** Cuts each run of a strided request separately. */
function cutLongRuns(segments: Segment[], request: TensorRequest, run: Run, blockBytes: number): void {
  const length = castLength(request.run, request.dtype, request.target);
  const step = request.dtype === request.target ? blockBytes : castBlock(blockBytes, request.dtype);
  let offset = run.offset;
  for (const start of runOffsets(request.fileOffset, request.levels)) {
    for (let at = 0; at < request.run; at += step) {
      segments.push({
        file: request.file,
        fileOffset: start + at,
        run: Math.min(step, request.run - at),
        outerCount: 1,
        outerStride: 0,
        innerCount: 1,
        innerStride: 0,
        from: request.dtype,
        to: request.target,
        allocation: run.allocation,
        offset: offset + castLength(at, request.dtype, request.target),
        firstRequest: run.first,
        stopRequest: run.stop,
      });
    }
    offset += length;
  }
}

const ONCE: Level = { count: 1, stride: 0 };

/** Splits levels: a segment has the two innermost ones; each repetition of the others becomes a separate segment. */
function splitLevels(
  request: TensorRequest,
  blockBytes: number,
): { inner: Level; outer: Level; rest: readonly Level[] } {
  const { levels, run } = request;
  const last = levels.at(-1)!;
  const span = (last.count - 1) * last.stride + run;
  if (last.stride - run > readThroughGap(run) || levels.length === 1 || span > blockBytes) {
    return { inner: ONCE, outer: last, rest: levels.slice(0, -1) };
  }
  return { inner: last, outer: levels.at(-2)!, rest: levels.slice(0, -2) };
}
