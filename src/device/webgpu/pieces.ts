/**
 * Transfers in pieces: no call to the device holds the event loop, or the memory that it copies through, for longer.
 */

/**
 * Bytes of one piece. `writeBuffer` copies through memory of its own that the next submission frees: many pieces are
 * faster than one call for gigabytes, which needs as much memory again. From 1 to 16 MiB they are equally fast.
 */
export const PIECE = 4 * 2 ** 20;

/** The pieces of so many bytes as `[offset, length]`, with a turn of the event loop after each. */
export async function* pieces(
  byteLength: number,
  size: number,
): AsyncGenerator<[offset: number, length: number], void, void> {
  for (let at = 0; at < byteLength; at += size) {
    yield [at, Math.min(size, byteLength - at)];
    await turn();
  }
}

/** Lets everything else that waits have its turn; a timer of 0 would take a millisecond. */
export function turn(): Promise<void> {
  return new Promise((resolve) => inNextTurn(resolve));
}

/** Calls back in the next turn of the event loop. Browsers have no `setImmediate`, but messages. */
const inNextTurn: (callback: () => void) => void = globalThis.setImmediate ?? ((callback) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    port2.close();
    callback();
  };
  port2.postMessage(null);
});
