/**
 * Loads in batches with a limit of memory: reads the next batches while the caller uses one.
 */
import { inSteps, type Steps } from "../base/steps.ts";
import { finishInTurns } from "../base/turn.ts";
import { type Load, type LoadRequest, sortSteps } from "./load.ts";
import { resultBytes } from "./layout.ts";
import type { Session } from "./session.ts";
import type { Tensor } from "./tensor.ts";

/** Limits of the batches in memory. */
export interface StreamBounds {
  /** Bytes of tensors in memory at once, after a cast, of all batches together. */
  readonly bytesInFlight: number;
  /**
   * Batches to read ahead. -1: a batch is read after the caller has finished with the one before. 0: the next batch is read
   * while the caller uses one. From 1 on: so many more batches are read ahead.
   */
  readonly queueSize: number;
}

/** Number of batches in memory at once. */
function liveBatches({ queueSize }: StreamBounds): number {
  return queueSize + 2;
}

/** Bytes of one batch. */
export function batchBytes(bounds: StreamBounds): number {
  return Math.floor(bounds.bytesInFlight / liveBatches(bounds));
}

/** Cuts requests into batches of at most `bytes` in memory; a larger tensor is a separate batch. */
export function* batchSteps(requests: readonly LoadRequest[], bytes: number): Steps<LoadRequest[][]> {
  const batches: LoadRequest[][] = [];
  let size = 0;
  yield* inSteps(requests, (request) => {
    const length = resultBytes(request);
    if (batches.length === 0 || size + length > bytes) {
      batches.push([]);
      size = 0;
    }
    batches.at(-1)!.push(request);
    size += length;
  });
  return batches;
}

/** Loads and yields tensors batch by batch. An early end of the iteration ends the reads. */
export async function* streamBatches<T extends Tensor>(
  session: Session<T>,
  requests: readonly LoadRequest[],
  bounds: StreamBounds,
): AsyncGenerator<[string, T], void, void> {
  const batches = await finishInTurns(batchSteps(requests, batchBytes(bounds)));
  for await (const { load } of loadAhead(session, batches, bounds)) yield* await load;
}

/**
 * Yields the load of each batch, and starts as many later loads as the limits allow. A request for the next load ends the
 * one before.
 */
export async function* loadAhead<T extends Tensor>(
  session: Session<T>,
  batches: readonly LoadRequest[][],
  bounds: StreamBounds,
): AsyncGenerator<{ load: Promise<Load<T>> }, void, void> {
  for (const batch of batches) {
    session.context.counter.expect((await finishInTurns(sortSteps(batch))).work);
  }
  const started: Promise<Load<T>>[] = []; // the caller uses the first one
  let next = 0;
  const start = (count: number) => {
    while (started.length < count && next < batches.length) {
      const load = session.load(batches[next++]!, { isAnnounced: true });
      load.catch(() => {}); // the caller gets the error when this load is yielded
      started.push(load);
    }
  };
  const end = async (reason: string) => {
    await started.shift()!.then((load) => session.end(load, new Error(reason)), () => {});
  };
  try {
    for (start(1); started.length > 0; start(1)) {
      const load = started[0]!;
      await load.then(() => start(liveBatches(bounds)), () => {}); // it allocates before the next batch does
      yield { load };
      await end("The caller has finished with this batch");
    }
  } finally {
    while (started.length > 0) await end("The iteration has ended");
  }
}
