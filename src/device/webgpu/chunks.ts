/**
 * Cutting a load into chunks that pass through staging memory: what is read into it, and where the device's queue then
 * takes it. Pure: nothing is read or written here.
 *
 * What is uploaded as it is lies in staging memory as in its buffer, alignment gaps included, so that one call uploads
 * many small tensors. What the GPU casts goes to a scratch buffer first, as it is in the file.
 */
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { PAGE } from "../../load/layout.ts";
import { type LoadPlan, type Segment, segmentBytes } from "../../load/plan.ts";
import { castLength } from "../../load/request.ts";
import { ceilTo, floorTo } from "./gpu.ts";

/** A range of staging memory and where it is uploaded. Offsets and length are multiples of 4 in the buffer. */
export interface Upload {
  /** Index of the allocation; null is the scratch buffer. */
  readonly allocation: number | null;
  /** The first byte in the buffer. */
  readonly offset: number;
  /** The first byte in staging memory. */
  readonly staging: number;
  /** How many bytes. */
  byteLength: number;
  /** Bytes at its begin that came with the upload before this one: the two share a word of the buffer. */
  readonly carried: number;
}

/** Elements in the scratch buffer that the GPU casts. */
export interface ChunkCast {
  /** Element type in the scratch buffer. */
  readonly from: DType;
  /** Element type in the allocation. */
  readonly to: DType;
  /** How many elements. */
  count: number;
  /** The byte of the first in the scratch buffer. */
  readonly scratch: number;
  /** Index of the allocation. */
  readonly allocation: number;
  /** The byte of the first there. */
  readonly offset: number;
}

/** What goes through one block of staging memory at once. */
export interface Chunk {
  /** What is read: its one allocation is the block. */
  readonly plan: LoadPlan;
  /** The segments of the whole load that this is: the first, and one after the last. */
  readonly segments: readonly [first: number, stop: number];
  /** What is uploaded then, in order. */
  readonly uploads: readonly Upload[];
  /** Staging bytes that nothing is read into: to be zeros when they are uploaded. */
  readonly gaps: readonly (readonly [start: number, stop: number])[];
  /** What is cast once it is uploaded. */
  readonly casts: readonly ChunkCast[];
}

/** From this length on, a read can go straight to where staging and file agree modulo a page. */
const DIRECT = 64 * 1024;

/** A gap of the buffer that is uploaded with what is around it, rather than made the end of one upload. */
const SMALL_GAP = 4096;

/** Whether the GPU casts a pair. What becomes smaller is cast by the lanes, as then there is less to upload. */
export function castsOnGpu(from: DType, to: DType): boolean {
  return from !== to && dtypeBits(from) <= dtypeBits(to);
}

/** Staging bytes of a chunk beyond its data: gaps, and a begin that agrees with its file modulo a page. */
export const CHUNK_MARGIN = 3 * PAGE;

/** Bytes of staging memory that the largest chunk of a plan needs at most; of the scratch buffer it needs no more. */
export function chunkRoom(plan: LoadPlan, chunkBytes: number): number {
  return Math.min(chunkBytes, plan.bytes + plan.segments.length * PAGE) + CHUNK_MARGIN;
}

/**
 * Cuts a plan into chunks, each when it is asked for: the plan of a large model has a great many.
 *
 * @param chunkBytes a chunk needs at most as many staging bytes and {@linkcode CHUNK_MARGIN}; no segment has more
 * @param alignment what every cast begins at a multiple of, in the scratch buffer
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

/** Bytes of a segment in staging memory. */
function stagedBytes(segment: Segment): number {
  const { from, to } = segment;
  return castsOnGpu(from, to) ? segmentBytes(segment) : castLength(segmentBytes(segment), from, to);
}

class ChunkBuilder {
  readonly #alignment: number;
  readonly #uploads: Upload[] = [];
  readonly #casts: ChunkCast[] = [];
  readonly #gaps: [number, number][] = [];
  /** Where the last upload ends in staging memory. */
  #end = 0;
  #scratchEnd = 0;

  constructor(alignment: number) {
    this.#alignment = alignment;
  }

  /** Staging bytes so far. */
  get end(): number {
    return this.#end;
  }

  /** Finds a place for a segment; where in staging memory it is to be read. */
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

  /** Adds to the last upload. */
  #extend(upload: Upload, gap: number, length: number): number {
    const staging = this.#end + gap;
    if (gap > 0) this.#gaps.push([this.#end, staging]);
    upload.byteLength += gap + length;
    this.#end = staging + length;
    return staging;
  }

  /** Where the last upload ends once it is padded to whole words; an upload need not begin at one in staging memory. */
  #paddedEnd(): number {
    const last = this.#uploads.at(-1);
    return last ? last.staging + ceilTo(last.byteLength, 4) : 0;
  }

  /** Where an upload can begin whose first `carried` bytes are there before the segment's. */
  #place({ fileOffset, run }: Segment, carried: number): number {
    const start = this.#paddedEnd();
    if (run < DIRECT) return start;
    const page = floorTo(start, PAGE) + (fileOffset - carried) % PAGE;
    return page < start ? page + PAGE : page;
  }
}

/** The plan that reads a chunk into its block. What the GPU casts is read as bytes. */
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
