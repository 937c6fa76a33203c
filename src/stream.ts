/**
 * Loading in batches under a bound on memory: the next batch is read while the last one is used.
 */
import type { Load, LoadRequest } from "./load.ts";
import { requestBytes } from "./plan/request.ts";
import type { Session } from "./session.ts";
import type { Tensor } from "./tensor/tensor.ts";

/** Cuts requests into batches of at most `bytes` file bytes; a larger tensor is a batch of its own. */
export function cutBatches(requests: readonly LoadRequest[], bytes: number): LoadRequest[][] {
  const batches: LoadRequest[][] = [];
  let size = 0;
  for (const request of requests) {
    const length = requestBytes(request);
    if (batches.length === 0 || size + length > bytes) {
      batches.push([]);
      size = 0;
    }
    batches.at(-1)!.push(request);
    size += length;
  }
  return batches;
}

/**
 * Loads and yields tensors batch by batch. Two batches are in memory at once: the one that is given out, and the one
 * that is being read meanwhile. Ending the iteration early ends the reading.
 *
 * @param bytesInFlight bound on both batches together, in file bytes
 */
export async function* streamBatches<T extends Tensor>(
  session: Session<T>,
  requests: readonly LoadRequest[],
  bytesInFlight: number,
): AsyncGenerator<[string, T], void, void> {
  const batches = cutBatches(requests, Math.floor(bytesInFlight / 2));
  const start = (index: number): Promise<Load<T>> | undefined => {
    const batch = batches[index];
    if (!batch) return undefined;
    const load = session.load(batch);
    load.catch(() => {}); // told when its turn comes
    return load;
  };
  let current: Load<T> | undefined;
  let next = start(0);
  try {
    for (let index = 0; next; index++) {
      current = await next;
      next = start(index + 1);
      yield* current;
      await session.end(current, new Error("This batch has been given out"));
      current = undefined;
    }
  } finally {
    const reason = new Error("The iteration has ended");
    if (current) await session.end(current, reason);
    await next?.then((load) => session.end(load, reason), () => {});
  }
}
