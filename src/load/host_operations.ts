/**
 * Slices, casts and joins of tensors that are in host memory already, without holding the event loop: on its own thread
 * in short turns, or by what an engine brings.
 */
import { castBytes } from "../format/cast.ts";
import { type DType, dtypeBits } from "../base/dtype.ts";
import { cutSlice, gatherSlice, type SliceLayout } from "../format/slices.ts";
import { Turn } from "../base/turn.ts";

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

/** Bytes of one turn on the loop's thread: a few milliseconds of the slowest copies, those of single bytes. */
const TURN = 512 * 1024;

/** One source's bytes in all rows of a join. */
interface Column {
  readonly source: Bytes;
  /** Bytes of a row. */
  readonly width: number;
  /** Where its first row goes. */
  readonly offset: number;
}

/** The columns of a join. */
export function columnsOf(sources: readonly Bytes[], rows: number): Column[] {
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
export function* cutCast(
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

let operations: HostOperations = new LoopOperations();

/** What tensors without a model use: those of the engine that was opened last, which nothing is asked for here. */
export function hostOperations(): HostOperations {
  return operations;
}

/** Has tensors without a model use these operations. */
export function useHostOperations(engineOperations: HostOperations): void {
  operations = engineOperations;
}
