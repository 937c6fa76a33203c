/**
 * Slices, casts and joins of tensors in host memory that do not block the event loop: in short turns on its thread, or by
 * the operations of an engine.
 */
import { castBytes } from "../format/cast.ts";
import { type DType, dtypeBits } from "../base/dtype.ts";
import type { StridedRuns } from "../base/levels.ts";
import { copyStrided, cutCopy, denseCopy, type StridedCopy } from "../format/strided.ts";
import { Turn } from "../base/turn.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Operations on bytes in host memory. Source and target do not overlap; the target has exactly the length needed. */
export interface HostOperations {
  /** Allocates a buffer of this length, on huge pages if it is large; throws a RangeError if memory is missing. */
  allocate(byteLength: number): Bytes;
  /** Copies a slice from the bytes of its tensor. */
  gather(source: Bytes, runs: StridedRuns, target: Bytes): Promise<void>;
  /** Casts every element, which {@linkcode castSupported} allows; the same dtype on both sides is a copy. */
  cast(source: Bytes, from: DType, target: Bytes, to: DType): Promise<void>;
  /** Fills `rows` rows of the target, each with the next row of every source in turn. */
  join(sources: readonly Bytes[], rows: number, target: Bytes): Promise<void>;
}

/** Bytes of one turn on the event loop: the slowest copies, of single bytes, take a few milliseconds for them. */
const TURN = 512 * 1024;

/** One source's bytes in all rows of a join. */
export interface Column {
  readonly source: Bytes;
  /** Bytes of a row. */
  readonly width: number;
  /** Byte offset of its first row in the target. */
  readonly offset: number;
}

/** Returns the columns of a join. */
export function columnsOf(sources: readonly Bytes[], rows: number): Column[] {
  let offset = 0;
  return sources.map((source) => {
    const width = source.byteLength / rows;
    const column = { source, width, offset };
    offset += width;
    return column;
  });
}

/** The copy of a source's rows of a join to its target. */
export function columnCopy({ source, width, offset }: Column, rows: number, target: Bytes): StridedCopy {
  const levels = [{ count: rows, stride: width, targetStride: target.byteLength / rows }];
  return { byteLength: source.byteLength, offset: 0, targetOffset: offset, run: width, levels };
}

/** Elements of `dtype` in about `bytes` bytes; a multiple of 4, so that pieces of sub-byte elements end with a byte. */
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

/** Copies runs in short turns of the event loop; a series of copies shares one `turn`. */
export async function copyInTurns(
  source: Bytes,
  copy: StridedCopy,
  target: Bytes,
  turn: Turn,
): Promise<void> {
  for (const part of cutCopy(copy, TURN)) {
    await turn.pause();
    copyStrided(source, part, target);
  }
}

/** Operations on the thread of the event loop. */
export class LoopOperations implements HostOperations {
  allocate(byteLength: number): Bytes {
    return new Uint8Array(byteLength);
  }

  async gather(source: Bytes, runs: StridedRuns, target: Bytes): Promise<void> {
    await copyInTurns(source, denseCopy(runs), target, new Turn());
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
    if (rows === 1 && target.byteLength <= TURN * sources.length) { // one after another: the usual case of many short ones
      let end = 0;
      for (const source of sources) {
        await turn.pause();
        target.set(source, end);
        end += source.byteLength;
      }
      return;
    }
    for (const column of columnsOf(sources, rows)) {
      await copyInTurns(column.source, columnCopy(column, rows, target), target, turn);
    }
  }
}

let operations: HostOperations = new LoopOperations();

/** The operations of tensors without a model: those of the engine that was selected last. */
export function hostOperations(): HostOperations {
  return operations;
}

/** Sets the operations of tensors without a model. */
export function useHostOperations(engineOperations: HostOperations): void {
  operations = engineOperations;
}
