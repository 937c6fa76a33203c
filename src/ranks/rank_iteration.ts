/** Iterates over the tensors of files that the ranks of a group have opened together, on all ranks. */
import { messageOf } from "../base/text.ts";
import type { CatalogTensor, FileHome } from "../files/catalog.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { finishInTurns } from "../base/turn.ts";
import type { NamedRequests } from "../load/load.ts";
import type { Session } from "../load/session.ts";
import { batchBytes, loadAhead, type StreamBounds } from "../load/stream.ts";
import type { Tensor } from "../load/tensor.ts";
import {
  cutOperations,
  Exchange,
  type PreparedOperation,
  requestLength,
  type Supply,
  type WantedTensor,
} from "./exchange.ts";

/** The tensors of one load on each rank. */
export interface SharedBatch<T extends Tensor> {
  /** The tensors in the order of the iteration, the same on every rank. */
  readonly wanted: readonly WantedTensor[];
  /** The source of the tensors. */
  readonly supply: Supply<T>;
}

/** One iteration over all tensors. */
export class RankIteration<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #requests: NamedRequests;
  readonly #exchange: Exchange<T>;

  /** @param requests every wanted tensor, of any rank */
  constructor(session: Session<T>, requests: NamedRequests) {
    this.#session = session;
    this.#requests = requests;
    this.#exchange = Exchange.of(session);
  }

  /**
   * All tensors in batches: of each rank's first file at most `bytes` bytes, or one larger tensor; then the next
   * of these, and so on; then the same for each rank's second file. A batch alternates between the files of the
   * ranks, in proportion to their sizes.
   */
  *batchSteps(bytes: number): Steps<WantedTensor[][]> {
    const rounds: WantedTensor[][][] = [];
    const reached = new Map<FileHome, { batch: number; bytes: number }>();
    const tensors = [...this.#requests.keys()].map((name) => this.#session.find(name));
    let step = 0;
    for (const { name, home } of sideBySide(tensors)) {
      if (++step % STEP === 0) yield;
      const wanted = { request: this.#requests.get(name)!, owner: home!.rank, dimension: null };
      const length = requestLength(wanted);
      const last = reached.get(home!) ?? { batch: 0, bytes: 0 };
      const isFull = last.bytes > 0 && last.bytes + length > bytes;
      const batch = last.batch + (isFull ? 1 : 0);
      reached.set(home!, { batch, bytes: (isFull ? 0 : last.bytes) + length });
      const batches = rounds[home!.round] ??= [];
      (batches[batch] ??= []).push(wanted);
    }
    return rounds.flat();
  }

  /**
   * Loads batch by batch. The memory limit of each rank counts the tensors that it reads; tensors that it receives
   * are extra.
   */
  async *stream(bounds: StreamBounds): AsyncGenerator<SharedBatch<T>, void, void> {
    const session = this.#session;
    const batches = await finishInTurns(this.batchSteps(batchBytes(bounds)));
    const { rank } = session.context.options.group;
    const own = batches.map((batch) =>
      batch.filter(({ owner }) => owner === rank).map(({ request }) => request)
    );
    let index = 0;
    for await (const { load } of loadAhead(session, own, bounds)) {
      yield {
        wanted: batches[index++]!,
        supply: { own: async (request) => await (await load).get(request) },
      };
    }
  }

  /** All tensors as one batch. */
  async *inOneBatch(supply: Supply<T>): AsyncGenerator<SharedBatch<T>, void, void> {
    yield { wanted: (await finishInTurns(this.batchSteps(Infinity))).flat(), supply };
  }

  /**
   * Yields every tensor of some batches as `[name, tensor]` on every rank. If a rank ends the iteration early, it
   * ends on all: the others get a GroupError.
   */
  async *run(batches: AsyncIterable<SharedBatch<T>>): AsyncGenerator<[string, T], void, void> {
    let tooEarly: string | null = "it ended the iteration early";
    let othersNotified = false; // whether the other ranks know the end of this iteration
    let onOperationDone = () => {}; // called after every rank has received the tensors of an operation
    let nextOperation: PreparedOperation<T> | undefined; // the next operation, prepared while bytes move
    try {
      for await (const { wanted, supply } of batches) {
        const operations = cutOperations(wanted);
        for (const [index, operation] of operations.entries()) {
          othersNotified = true;
          const label = `next tensors, from "${operation[0]!.request.name}"`;
          using current = nextOperation ?? this.#exchange.begin(operation, supply); // disposed unless it is taken
          nextOperation = undefined;
          const tensors = await this.#exchange.take(label, operation, {
            ...supply,
            onReceived: () => onOperationDone(),
          }, {
            prepared: current,
            moving: () => {
              const next = operations[index + 1];
              if (next) nextOperation = this.#exchange.begin(next, supply);
            },
          });
          othersNotified = false;
          onOperationDone = () => supply.onReceived?.(operation);
          yield* giveOut(operation, tensors);
        }
      }
      tooEarly = null;
    } catch (error) {
      tooEarly = messageOf(error);
      throw error;
    } finally {
      nextOperation?.[Symbol.dispose]();
      if (!othersNotified) {
        await this.#exchange.end("end of the iteration", tooEarly).then(onOperationDone, () => {});
      }
    }
  }
}

/** Orders tensors so that all ranks progress at the same rate. */
function sideBySide(tensors: readonly CatalogTensor[]): CatalogTensor[] {
  return tensors.toSorted((a, b) =>
    a.home!.round - b.home!.round || a.fileOffset - b.fileOffset || a.home!.rank - b.home!.rank
  );
}

/** Yields tensors one by one; disposes the rest if the consumer stops. */
function* giveOut<T extends Tensor>(
  wanted: readonly WantedTensor[],
  tensors: readonly T[],
): Generator<[string, T], void, void> {
  let next = 0;
  try {
    while (next < tensors.length) {
      const tensor = tensors[next]!;
      yield [wanted[next++]!.request.name, tensor];
    }
  } finally {
    for (; next < tensors.length; next++) tensors[next]![Symbol.dispose]();
  }
}
