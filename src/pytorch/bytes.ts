/** Reads of a checkpoint's bytes, from a file or from memory. */
import { Turn } from "../base/turn.ts";

/** Positional reads of a file of known size. */
export interface ByteReader {
  /** The file, for messages. */
  readonly path: string;
  /** Its size in bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes from `offset`; calls may overlap.
   *
   * @throws {ReadError} if the file is too short
   */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/* ---- Many small ranges of a file with few reads and little memory ---- */

/** A range of a file, in bytes. */
export interface FileRange {
  /** Its first byte. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly length: number;
}

/** The longest read that brings several ranges. */
const WINDOW_BYTES = 2 ** 20;

/** Gaps up to this many bytes between two ranges are read too, because a second read costs more. */
const GAP_BYTES = 2 ** 16;

/** How many reads are under way at once. */
const CONCURRENT_READS = 8;

/** The event loop gets a turn after this many ranges. */
const TURN_STEPS = 256;

/**
 * Reads `ranges`, given in ascending order without overlaps, and passes the bytes of each to `visit` with its
 * index. The bytes are a view of a larger read, valid during the call. Memory in use: at most about 8 MiB.
 */
export async function readScattered(
  reader: ByteReader,
  ranges: readonly FileRange[],
  visit: (bytes: Uint8Array, index: number) => void,
): Promise<void> {
  const turn = new Turn();
  for (let next = 0; next < ranges.length;) {
    const reads: Promise<Window>[] = [];
    while (reads.length < CONCURRENT_READS && next < ranges.length) {
      const first = next;
      next = windowEnd(ranges, first);
      reads.push(readWindow(reader, ranges, first, next));
    }
    // Wait for all reads before a failure is thrown, because the caller then closes the file.
    const outcomes = await Promise.allSettled(reads);
    const windows = outcomes.map((outcome) => {
      if (outcome.status === "rejected") throw outcome.reason;
      return outcome.value;
    });
    for (const { first, last, start, bytes } of windows) {
      for (let i = first; i < last; i++) {
        if (i % TURN_STEPS === 0) await turn.pause();
        const { offset, length } = ranges[i]!;
        visit(bytes.subarray(offset - start, offset - start + length), i);
      }
    }
  }
}

/** The index after the last range that shares a read with the range at `first`. */
function windowEnd(ranges: readonly FileRange[], first: number): number {
  const start = ranges[first]!.offset;
  let end = start + ranges[first]!.length;
  let next = first + 1;
  for (; next < ranges.length; next++) {
    const { offset, length } = ranges[next]!;
    if (offset - end > GAP_BYTES || offset + length - start > WINDOW_BYTES) break;
    end = offset + length;
  }
  return next;
}

/** The ranges of one read. */
interface Window {
  readonly first: number;
  /** The index after the last range. */
  readonly last: number;
  /** The file offset of `bytes`. */
  readonly start: number;
  readonly bytes: Uint8Array;
}

async function readWindow(
  reader: ByteReader,
  ranges: readonly FileRange[],
  first: number,
  last: number,
): Promise<Window> {
  const start = ranges[first]!.offset;
  const end = ranges[last - 1]!.offset + ranges[last - 1]!.length;
  return { first, last, start, bytes: await reader.read(start, end - start) };
}
