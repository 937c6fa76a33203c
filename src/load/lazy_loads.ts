/**
 * Loading what is asked for, when it is asked for.
 */
import { OutOfMemoryError } from "../base/errors.ts";
import type { Load, LoadRequest } from "./load.ts";
import { TurnQueue } from "../base/turn.ts";
import type { Session } from "./session.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** What is read together. */
interface LazyBatch<T extends Tensor> {
  /** A request that is made twice is read once. */
  readonly requests: Set<LoadRequest>;
  readonly load: Promise<Load<T>>;
  /** Those who wait for the load: of very many, not all are told in one turn of the event loop. */
  readonly waiting: PromiseWithResolvers<void>[];
  /** How many tensors are still to be given out. */
  left: number;
}

/** Loads on demand: what is asked for in one turn of the event loop is read together. */
export class LazyLoads<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #files: readonly SourceFile[];
  #batch: LazyBatch<T> | undefined;
  /** Settles when what is read by itself, as its batch did not fit in memory, has come. */
  #last: Promise<void> = Promise.resolve();

  /** @param files what the requests name by index; default is the session's */
  constructor(session: Session<T>, files: readonly SourceFile[] = session.context.files) {
    this.#session = session;
    this.#files = files;
  }

  /** The tensor of a request, once it has landed. */
  async get(request: LoadRequest): Promise<T> {
    const batch = this.#batch ??= this.#nextBatch();
    batch.requests.add(request);
    batch.left++;
    const started = Promise.withResolvers<void>();
    batch.waiting.push(started);
    await started.promise;
    let load: Load<T>;
    try {
      load = await batch.load;
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || batch.requests.size === 1) throw error;
      return await this.#alone(request); // what does not fit together may fit one by one
    }
    try {
      return await load.get(request);
    } finally {
      if (--batch.left === 0) this.#retire(load);
    }
  }

  #alone(request: LoadRequest): Promise<T> {
    const tensor = this.#last.then(async () => {
      const load = await this.#session.load([request], { files: this.#files });
      try {
        return await load.get(request);
      } finally {
        this.#retire(load);
      }
    });
    this.#last = tensor.then(() => {}, () => {});
    return tensor;
  }

  /** Ends a load whose tensors have all been given out; these keep their own hold on the memory. */
  #retire(load: Load<T>): void {
    const end = () => this.#session.end(load, new Error("This load has been given out"));
    load.finished().then(end, end);
  }

  #nextBatch(): LazyBatch<T> {
    const requests = new Set<LoadRequest>();
    const load = Promise.resolve().then(() => {
      this.#batch = undefined;
      return this.#session.load([...requests], { files: this.#files });
    });
    const batch: LazyBatch<T> = { requests, load, waiting: [], left: 0 };
    const queue = new TurnQueue();
    const startAll = () => batch.waiting.forEach(({ resolve }) => queue.add(resolve));
    load.then(startAll, startAll);
    return batch;
  }
}
