/**
 * Transfers in pieces, so that each call to the device blocks the event loop for a short time and copies through little
 * memory.
 */
import { nextTurn } from "../../base/turn.ts";

/**
 * Bytes of one piece. `writeBuffer` copies through separate memory that the next submission frees: many pieces are faster
 * than one call for gigabytes, which needs the same amount of memory again. All sizes from 1 to 16 MiB are equally fast.
 */
export const PIECE = 4 * 2 ** 20;

/** Yields the pieces of a range as `[offset, length]`, with a turn of the event loop after each. */
export async function* pieces(
  byteLength: number,
  size: number,
): AsyncGenerator<[offset: number, length: number], void, void> {
  for (let at = 0; at < byteLength; at += size) {
    yield [at, Math.min(size, byteLength - at)];
    await nextTurn();
  }
}
