/**
 * Every tensor of files that the ranks of a group have opened together, handed out one after another to all of them.
 */
import type { CatalogTensor, FileHome } from "../files/catalog.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { finishInTurns } from "../base/turn.ts";
import type { NamedRequests } from "../load/load.ts";
import type { Session } from "../load/session.ts";
import { batchBytes, loadAhead, type StreamBounds } from "../load/stream.ts";
import type { Tensor } from "../load/tensor.ts";
import {
  type BegunOperation,
  cutOperations,
  Exchange,
  requestLength,
  type Supply,
  type WantedTensor,
} from "./exchange.ts";

/** What comes from one load at each rank. */
export interface SharedBatch<T extends Tensor> {
  /** In the order in which they are handed out, the same on every rank. */
  readonly wanted: readonly WantedTensor[];
  /** Where they come from. */
  readonly supply: Supply<T>;
}

/** One way through all tensors. */
export class RankIteration<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #requests: NamedRequests;
  readonly #exchange: Exchange<T>;

  /** @param requests every tensor that is wanted, whichever rank has it */
  constructor(session: Session<T>, requests: NamedRequests) {
    this.#session = session;
    this.#requests = requests;
    this.#exchange = Exchange.of(session);
  }

  /**
   * All tensors in batches: of each rank's first file at most so many bytes, or one tensor that is larger; then the
   * next of these, and so on; then the same of each rank's second file. Within a batch the files of different ranks go
   * side by side, at the pace at which the ranks read them.
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
   * Loads batch by batch. The bound on memory is each rank's for what it reads; what it receives comes on top.
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
   * Every tensor of some batches as `[name, tensor]` on every rank. A rank that ends the iteration early ends it for
   * all: the others are told by a GroupError.
   */
  async *run(batches: AsyncIterable<SharedBatch<T>>): AsyncGenerator<[string, T], void, void> {
    let tooEarly: string | null = "it ended the iteration early";
    let isTold = false; // whether the others know how this ends
    let taken = () => {}; // what to do once every rank has taken the tensors of an operation
    let begun: BegunOperation<T> | undefined; // the next operation, prepared while the bytes of the last one move
    try {
      for await (const { wanted, supply } of batches) {
        const operations = cutOperations(wanted);
        for (const [index, operation] of operations.entries()) {
          isTold = true;
          const label = `next tensors, from "${operation[0]!.request.name}"`;
          using current = begun ?? this.#exchange.begin(operation, supply); // given up unless it is taken
          begun = undefined;
          const tensors = await this.#exchange.take(label, operation, {
            ...supply,
            handedOut: () => taken(),
          }, {
            begun: current,
            moving: () => {
              const next = operations[index + 1];
              if (next) begun = this.#exchange.begin(next, supply);
            },
          });
          isTold = false;
          taken = () => supply.handedOut?.(operation);
          yield* giveOut(operation, tensors);
        }
      }
      tooEarly = null;
    } catch (error) {
      tooEarly = error instanceof Error ? error.message : String(error);
      throw error;
    } finally {
      begun?.[Symbol.dispose]();
      if (!isTold) await this.#exchange.end("end of the iteration", tooEarly).then(taken, () => {});
    }
  }
}

/** Tensors in the order in which their ranks read them, all at the same pace. */
function sideBySide(tensors: readonly CatalogTensor[]): CatalogTensor[] {
  return tensors.toSorted((a, b) =>
    a.home!.round - b.home!.round || a.fileOffset - b.fileOffset || a.home!.rank - b.home!.rank
  );
}

/** Gives out tensors one by one; those that nobody takes any more are given up. */
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
    for (; next < tensors.length; next++) tensors[next]![Symbol.dispose]?.();
  }
}
