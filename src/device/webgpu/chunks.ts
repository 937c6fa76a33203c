/**
 * Cuts a load into chunks that are read into staging memory and then uploaded to buffers. These functions are pure: they
 * neither read nor write.
 *
 * Bytes without a cast have the same layout in staging memory as in their buffer, with alignment gaps, so that one call
 * uploads many small tensors. Elements that the GPU casts are uploaded to a scratch buffer, in the dtype of the file.
 */
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { PAGE } from "../../load/layout.ts";
import { type LoadPlan, type Segment, segmentBytes } from "../../load/plan.ts";
import { castLength } from "../../load/request.ts";
import { ceilTo, floorTo } from "./gpu.ts";

/** A range of staging memory and its target. Offset and length in the buffer are multiples of 4. */
export interface Upload {
  /** Index of the allocation; null is the scratch buffer. */
  readonly allocation: number | null;
  /** Offset of the first byte in the buffer. */
  readonly offset: number;
  /** Offset of the first byte in staging memory. */
  readonly staging: number;
  /** Number of bytes. */
  byteLength: number;
  /** Bytes at its start that belong to the upload before: the two uploads share a word of the buffer. */
  readonly carried: number;
}

/** Elements in the scratch buffer that the GPU casts. */
export interface ChunkCast {
  /** Element type in the scratch buffer. */
  readonly from: DType;
  /** Element type in the allocation. */
  readonly to: DType;
  /** Number of elements. */
  count: number;
  /** Byte offset of the first element in the scratch buffer. */
  readonly scratch: number;
  /** Index of the allocation. */
  readonly allocation: number;
  /** Byte offset of the first element in the allocation. */
  readonly offset: number;
}

/** The segments that use one block of staging memory at once. */
export interface Chunk {
  /** The plan of its reads; the block is its only allocation. */
  readonly plan: LoadPlan;
  /** Its segments in the plan of the load: the first, and one after the last. */
  readonly segments: readonly [first: number, stop: number];
  /** The uploads after the reads, in order. */
  readonly uploads: readonly Upload[];
  /** Staging bytes without file bytes, which must be zeros at the upload. */
  readonly gaps: readonly (readonly [start: number, stop: number])[];
  /** The casts after the uploads. */
  readonly casts: readonly ChunkCast[];
}

/** Least length of a read that is placed so that staging offset and file offset are equal modulo a page. */
const DIRECT = 64 * 1024;

/** Largest gap of the buffer that does not end an upload: it is uploaded together with its neighbours. */
const SMALL_GAP = 4096;

/** Whether the GPU casts a pair of dtypes. Lanes cast to smaller dtypes, because this reduces the bytes to upload. */
export function castsOnGpu(from: DType, to: DType): boolean {
  return from !== to && dtypeBits(from) <= dtypeBits(to);
}

/** Most staging bytes of a chunk besides its data: gaps, and padding for offsets that are equal modulo a page. */
export const CHUNK_MARGIN = 3 * PAGE;

/** Returns a limit for the bytes of the largest chunk of a plan, in staging memory and in the scratch buffer. */
export function maxChunkBytes(plan: LoadPlan, chunkBytes: number): number {
  return Math.min(chunkBytes, plan.bytes + plan.segments.length * PAGE) + CHUNK_MARGIN;
}

/**
 * Cuts a plan into chunks, on request, because the plan of a large model has very many.
 *
 * @param chunkBytes most data bytes of a chunk, and of a segment; a chunk needs up to {@linkcode CHUNK_MARGIN} more
 * @param alignment the alignment of every cast in the scratch buffer, in bytes
 */
export function* cutChunks(
  plan: LoadPlan,
  chunkBytes: number,
  alignment: number,
): Generator<Chunk, void, void> {
  for (let first = 0; first < plan.segments.length;) {
    const builder = new ChunkBuilder(alignment);
    const staged: number[] = [];
    let stop = first;
    for (; stop < plan.segments.length; stop++) {
      const segment = plan.segments[stop]!;
      if (stop > first && builder.end + PAGE + stagedBytes(segment) > chunkBytes + CHUNK_MARGIN) break;
      staged.push(builder.add(segment));
    }
    yield builder.finish(plan, [first, stop], staged);
    first = stop;
  }
}

/** Returns the bytes of a segment in staging memory. */
function stagedBytes(segment: Segment): number {
  const { from, to } = segment;
  return castsOnGpu(from, to) ? segmentBytes(segment) : castLength(segmentBytes(segment), from, to);
}

class ChunkBuilder {
  readonly #alignment: number;
  readonly #uploads: Upload[] = [];
  readonly #casts: ChunkCast[] = [];
  readonly #gaps: [number, number][] = [];
  /** Staging offset of the end of the last upload. */
  #end = 0;
  #scratchEnd = 0;

  constructor(alignment: number) {
    this.#alignment = alignment;
  }

  /** Staging bytes used so far. */
  get end(): number {
    return this.#end;
  }

  /** Finds a place for a segment; returns its staging offset. */
  add(segment: Segment): number {
    return castsOnGpu(segment.from, segment.to) ? this.#addCast(segment) : this.#addPlain(segment);
  }

  finish(plan: LoadPlan, segments: readonly [number, number], staged: readonly number[]): Chunk {
    const stagingBytes = this.#paddedEnd();
    for (const upload of this.#uploads) {
      const { staging, byteLength } = upload;
      upload.byteLength = ceilTo(byteLength, 4);
      if (upload.byteLength > byteLength) {
        this.#gaps.push([staging + byteLength, staging + upload.byteLength]);
      }
    }
    return {
      plan: stagedPlan(plan, segments, staged, stagingBytes),
      segments,
      uploads: this.#uploads,
      gaps: this.#gaps,
      casts: this.#casts,
    };
  }

  #addPlain(segment: Segment): number {
    const { allocation, offset } = segment;
    const length = stagedBytes(segment);
    const last = this.#uploads.at(-1);
    if (last?.allocation === allocation) {
      const gap = offset - (last.offset + last.byteLength);
      const isClose = gap === 0 || (gap <= SMALL_GAP && length < DIRECT);
      if (isClose) return this.#extend(last, gap, length);
    }
    const carried = offset % 4; // a cut within a word
    const staging = this.#place(segment, carried);
    this.#uploads.push({
      allocation,
      offset: offset - carried,
      staging,
      byteLength: carried + length,
      carried,
    });
    this.#end = staging + carried + length;
    return staging + carried;
  }

  #addCast(segment: Segment): number {
    const { from, to, allocation, offset } = segment;
    const length = stagedBytes(segment);
    const count = length * 8 / dtypeBits(from);
    const last = this.#uploads.at(-1);
    const cast = this.#casts.at(-1);
    if (
      last?.allocation === null && cast?.allocation === allocation && cast.from === from && cast.to === to
    ) {
      const isNext = cast.offset + cast.count * dtypeBits(to) / 8 === offset;
      if (isNext) {
        cast.count += count;
        this.#scratchEnd += length;
        return this.#extend(last, 0, length);
      }
    }
    const scratch = ceilTo(this.#scratchEnd, this.#alignment);
    const gap = scratch - this.#scratchEnd;
    this.#scratchEnd = scratch + length;
    this.#casts.push({ from, to, count, scratch, allocation, offset });
    if (last?.allocation === null && length < DIRECT) return this.#extend(last, gap, length);
    const staging = this.#place(segment, 0);
    this.#uploads.push({ allocation: null, offset: scratch, staging, byteLength: length, carried: 0 });
    this.#end = staging + length;
    return staging;
  }

  /** Extends the last upload. */
  #extend(upload: Upload, gap: number, length: number): number {
    const staging = this.#end + gap;
    if (gap > 0) this.#gaps.push([this.#end, staging]);
    upload.byteLength += gap + length;
    this.#end = staging + length;
    return staging;
  }

  /** Staging offset of the end of the last upload with padding to whole words of the buffer. */
  #paddedEnd(): number {
    const last = this.#uploads.at(-1);
    return last ? last.staging + ceilTo(last.byteLength, 4) : 0;
  }

  /** Returns a staging offset for an upload that has `carried` bytes before the bytes of the segment. */
  #place({ fileOffset, run }: Segment, carried: number): number {
    const start = this.#paddedEnd();
    if (run < DIRECT) return start;
    const page = floorTo(start, PAGE) + (fileOffset - carried) % PAGE;
    return page < start ? page + PAGE : page;
  }
}

/** Makes the plan that reads a chunk into its block. Elements that the GPU casts are read as bytes. */
function stagedPlan(
  plan: LoadPlan,
  [first, stop]: readonly [number, number],
  staged: readonly number[],
  byteLength: number,
): LoadPlan {
  const whole = plan.segments.slice(first, stop);
  const firstRequest = Math.min(...whole.map((segment) => segment.firstRequest));
  const stopRequest = Math.max(...whole.map((segment) => segment.stopRequest));
  return {
    requests: plan.requests.slice(firstRequest, stopRequest),
    placements: plan.placements.slice(firstRequest, stopRequest),
    allocations: [byteLength],
    segments: whole.map((segment, index) => ({
      ...segment,
      ...castsOnGpu(segment.from, segment.to) ? { from: "U8", to: "U8" } as const : {},
      allocation: 0,
      offset: staged[index]!,
      firstRequest: segment.firstRequest - firstRequest,
      stopRequest: segment.stopRequest - firstRequest,
    })),
    bytes: whole.reduce((bytes, segment) => bytes + segmentBytes(segment), 0),
  };
}
