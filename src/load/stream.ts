/**
 * Loading in batches under a bound on memory: the next batches are read while one is given out.
 */
import { STEP, type Steps } from "../base/steps.ts";
import { finishInTurns } from "../base/turn.ts";
import { type Load, type LoadRequest, sortSteps } from "./load.ts";
import { resultBytes } from "./layout.ts";
import type { RankIteration, SharedBatch } from "../ranks/rank_iteration.ts";
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
  const bytes = Math.floor(bounds.bytesInFlight / liveBatches(bounds));
  const batches = await finishInTurns(batchSteps(requests, bytes));
  for await (const { load } of loadAhead(session, batches, liveBatches(bounds) - 1)) yield* await load;
}

/**
 * Loads batch by batch what the ranks of a group hand out together. The bound on memory is each rank's for what it
 * reads; besides there is what it is given.
 */
export async function* streamShared<T extends Tensor>(
  session: Session<T>,
  iteration: RankIteration<T>,
  bounds: StreamBounds,
): AsyncGenerator<SharedBatch<T>, void, void> {
  const bytes = Math.floor(bounds.bytesInFlight / liveBatches(bounds));
  const batches = await finishInTurns(iteration.batchSteps(bytes));
  const { rank } = session.context.options.group;
  const own = batches.map((batch) =>
    batch.filter(({ owner }) => owner === rank).map(({ request }) => request)
  );
  let index = 0;
  for await (const { load } of loadAhead(session, own, liveBatches(bounds) - 1)) {
    yield { wanted: batches[index++]!, supply: { own: async (request) => await (await load).get(request) } };
  }
}

/**
 * Starts to load each batch, and up to `ahead` more of those after it. A load is ended when the next one is asked for.
 */
async function* loadAhead<T extends Tensor>(
  session: Session<T>,
  batches: readonly LoadRequest[][],
  ahead: number,
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
      await load.then(() => start(1 + ahead), () => {}); // its own memory comes first
      yield { load };
      await end("This batch has been given out");
    }
  } finally {
    while (started.length > 0) await end("The iteration has ended");
  }
}
