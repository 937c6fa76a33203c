/**
 * Loading in batches under a bound on memory: the next batches are read while one is given out.
 */
import { STEP, type Steps } from "../base/steps.ts";
import { finishInTurns } from "../base/turn.ts";
import { type Load, type LoadRequest, sortSteps } from "./load.ts";
import { resultBytes } from "./layout.ts";
import type { Session } from "./session.ts";
import type { Tensor } from "./tensor.ts";

/** How much is loaded at once. */
export interface StreamBounds {
  /** Bytes of tensors that are in memory at once, as they are after a cast, of all batches together. */
  readonly bytesInFlight: number;
  /**
   * -1: a batch is read when the one before has been given out. 0: one is read while another is given out. From 1 on:
   * as many more are read ahead.
   */
  readonly queueSize: number;
}

/** Batches that are in memory at once. */
function liveBatches({ queueSize }: StreamBounds): number {
  return queueSize + 2;
}

/** Bytes of one batch. */
export function batchBytes(bounds: StreamBounds): number {
  return Math.floor(bounds.bytesInFlight / liveBatches(bounds));
}

/** Cuts requests into batches of at most `bytes` in memory; a larger tensor is a batch of its own. */
export function* batchSteps(requests: readonly LoadRequest[], bytes: number): Steps<LoadRequest[][]> {
  const batches: LoadRequest[][] = [];
  let size = 0;
  for (const [index, request] of requests.entries()) {
    if (index % STEP === 0) yield;
    const length = resultBytes(request);
    if (batches.length === 0 || size + length > bytes) {
      batches.push([]);
      size = 0;
    }
    batches.at(-1)!.push(request);
    size += length;
  }
  return batches;
}

/** Loads and yields tensors batch by batch. Ending the iteration early ends the reading. */
export async function* streamBatches<T extends Tensor>(
  session: Session<T>,
  requests: readonly LoadRequest[],
  bounds: StreamBounds,
): AsyncGenerator<[string, T], void, void> {
  const batches = await finishInTurns(batchSteps(requests, batchBytes(bounds)));
  for await (const { load } of loadAhead(session, batches, bounds)) yield* await load;
}

/**
 * Starts to load each batch, and as many of those after it as the bounds allow. A load is ended when the next one is
 * asked for.
 */
export async function* loadAhead<T extends Tensor>(
  session: Session<T>,
  batches: readonly LoadRequest[][],
  bounds: StreamBounds,
): AsyncGenerator<{ load: Promise<Load<T>> }, void, void> {
  for (const batch of batches) {
    session.context.tally.expect((await finishInTurns(sortSteps(batch))).work);
  }
  const started: Promise<Load<T>>[] = []; // the first is the one that is given out
  let next = 0;
  const start = (count: number) => {
    while (started.length < count && next < batches.length) {
      const load = session.load(batches[next++]!, { isAnnounced: true });
      load.catch(() => {}); // told when its turn comes
      started.push(load);
    }
  };
  const end = async (reason: string) => {
    await started.shift()!.then((load) => session.end(load, new Error(reason)), () => {});
  };
  try {
    for (start(1); started.length > 0; start(1)) {
      const load = started[0]!;
      await load.then(() => start(liveBatches(bounds)), () => {}); // its own memory comes first
      yield { load };
      await end("This batch has been given out");
    }
  } finally {
    while (started.length > 0) await end("The iteration has ended");
  }
}
