/**
 * Transfers in pieces, so that each call to the device blocks the event loop for a short time and copies through little
 * memory.
 */

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
    await turn();
  }
}

/** Waits for the next turn of the event loop; a timer of 0 would take a millisecond. */
export function turn(): Promise<void> {
  return new Promise((resolve) => inNextTurn(resolve));
}

/** Calls back in the next turn of the event loop. Browsers do not have `setImmediate`; a message replaces it. */
const inNextTurn: (callback: () => void) => void = globalThis.setImmediate ?? ((callback) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    port2.close();
    callback();
  };
  port2.postMessage(null);
});
