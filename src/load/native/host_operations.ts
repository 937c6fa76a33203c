/**
 * Slices, casts and joins of tensors that are in host memory already, without holding the event loop: in non-blocking
 * calls of the shim where there is one, else on the event loop's thread in short turns.
 */
import { castHost, gatherHost, scatterHost } from "../../../ffi/host_ops.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { castBytes } from "../../format/cast.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { cutSlice, gatherSlice, type SliceLayout } from "../../format/slices.ts";
import { giveBack, take } from "./lane_budget.ts";
import { Turn } from "../../base/turn.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** What can be done to bytes in host memory. Source and target never overlap; the target has exactly the bytes needed. */
export interface HostOperations {
  /** A new buffer of just this length, on huge pages where that is worth it; throws a RangeError if there is none. */
  allocate(byteLength: number): Bytes;
  /** Copies a slice out of the bytes of its tensor. */
  gather(source: Bytes, layout: SliceLayout, target: Bytes): Promise<void>;
  /** Casts every element, which {@linkcode castSupported} allows; the same dtype on both sides is a copy. */
  cast(source: Bytes, from: DType, target: Bytes, to: DType): Promise<void>;
  /** Fills `rows` rows of the target, each with the next row of every source in turn. */
  join(sources: readonly Bytes[], rows: number, target: Bytes): Promise<void>;
}

/** Below this many bytes the loop's thread is quicker than a call to another one, in well under a millisecond. */
const SMALL = 64 * 1024;

/** Bytes of one turn on the loop's thread: a few milliseconds of the slowest copies, those of single bytes. */
const TURN = 512 * 1024;

/** Bytes of one call of the shim: several threads share what is larger. */
const CALL = 16 * 2 ** 20;

/** Bytes from which memory is worth huge pages. */
const LARGE = 2 * 2 ** 20;

/** One source's bytes in all rows of a join. */
interface Column {
  readonly source: Bytes;
  /** Bytes of a row. */
  readonly width: number;
  /** Where its first row goes. */
  readonly offset: number;
}

function columnsOf(sources: readonly Bytes[], rows: number): Column[] {
  let offset = 0;
  return sources.map((source) => {
    const width = source.byteLength / rows;
    const column = { source, width, offset };
    offset += width;
    return column;
  });
}

/** Elements of `dtype` in about so many bytes; a multiple of 4, so that pieces of sub-byte elements end with a byte. */
function elementsIn(bytes: number, dtype: DType): number {
  return Math.max(4, Math.floor(bytes * 8 / dtypeBits(dtype) / 4) * 4);
}

/** Cuts a cast into pieces of about `bytes` in the source. */
function* cutCast(
  source: Bytes,
  from: DType,
  target: Bytes,
  to: DType,
  bytes: number,
): Generator<{ source: Bytes; target: Bytes; count: number }> {
  const total = source.byteLength * 8 / dtypeBits(from);
  const step = elementsIn(bytes, from);
  for (let at = 0; at < total; at += step) {
    const count = Math.min(step, total - at);
    const part = (whole: Bytes, dtype: DType) =>
      whole.subarray(at * dtypeBits(dtype) / 8, (at + count) * dtypeBits(dtype) / 8);
    yield { source: part(source, from), target: part(target, to), count };
  }
}

/** On the thread of the event loop. */
export class LoopOperations implements HostOperations {
  allocate(byteLength: number): Bytes {
    return new Uint8Array(byteLength);
  }

  async gather(source: Bytes, layout: SliceLayout, target: Bytes): Promise<void> {
    const turn = new Turn();
    let at = 0;
    for (const part of cutSlice(layout, TURN)) {
      await turn.pause();
      gatherSlice(source, part, target.subarray(at, at += part.byteLength));
    }
  }

  async cast(source: Bytes, from: DType, target: Bytes, to: DType): Promise<void> {
    const turn = new Turn();
    for (const part of cutCast(source, from, target, to, TURN)) {
      await turn.pause();
      castBytes(part.source, from, part.target, to);
    }
  }

  async join(sources: readonly Bytes[], rows: number, target: Bytes): Promise<void> {
    const turn = new Turn();
    const pitch = target.byteLength / rows;
    let copied = 0;
    for (const { source, width, offset } of columnsOf(sources, rows)) {
      for (let row = 0; row < rows; row++) {
        for (let at = 0; at < width; at += TURN) {
          const part = source.subarray(row * width + at, row * width + Math.min(width, at + TURN));
          target.set(part, row * pitch + offset + at);
          copied += part.byteLength + 64; // a call costs as much as a few bytes
          if (copied < TURN) continue;
          copied = 0;
          await turn.pause();
        }
      }
    }
  }
}

/** In non-blocking calls of the shim. */
export class NativeOperations implements HostOperations {
  readonly #shim: Shim;
  readonly #loop = new LoopOperations();

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  allocate(byteLength: number): Bytes {
    const memory = new Uint8Array(byteLength);
    if (byteLength >= LARGE) this.#shim.fst_memory_advise(memory, 0n, BigInt(byteLength)); // before the first touch
    return memory;
  }

  async gather(source: Bytes, layout: SliceLayout, target: Bytes): Promise<void> {
    if (target.byteLength < SMALL) return await this.#loop.gather(source, layout, target);
    let at = 0;
    const parts = cutSlice(layout, CALL).map((part) => () =>
      gatherHost(this.#shim, source, part, target.subarray(at, at += part.byteLength))
    );
    await inParallel(parts, target.byteLength);
  }

  async cast(source: Bytes, from: DType, target: Bytes, to: DType): Promise<void> {
    if (source.byteLength < SMALL) return await this.#loop.cast(source, from, target, to);
    const parts = cutCast(source, from, target, to, CALL).map((part) => () =>
      castHost(this.#shim, part.source, from, part.target, to, part.count)
    );
    await inParallel(parts, source.byteLength);
  }

  async join(sources: readonly Bytes[], rows: number, target: Bytes): Promise<void> {
    if (target.byteLength < SMALL) return await this.#loop.join(sources, rows, target);
    const pitch = target.byteLength / rows;
    const parts = columnsOf(sources, rows).values().map(({ source, width, offset }) => () =>
      scatterHost(this.#shim, source, target, { offset, pitch, width, rows })
    );
    await inParallel(parts, target.byteLength);
  }
}

/** Runs calls on as many threads as the bytes are worth; all have ended when this settles. */
async function inParallel(
  calls: IteratorObject<() => Promise<void>>,
  byteLength: number,
): Promise<void> {
  const threads = Math.min(Math.ceil(byteLength / CALL), Math.max(2, navigator.hardwareConcurrency), 4);
  const taken = await take(1, threads);
  try {
    const run = async () => {
      for (const call of calls) await call(); // one iterator for all: each takes the next
    };
    const ends = await Promise.allSettled(Array.from({ length: taken }, run));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  } finally {
    giveBack(taken);
  }
}
