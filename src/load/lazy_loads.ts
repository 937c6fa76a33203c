/**
 * Loads tensors on request.
 */
import { OutOfMemoryError } from "../base/errors.ts";
import type { Load, LoadRequest } from "./load.ts";
import { TurnQueue } from "../base/turn.ts";
import type { Session } from "./session.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** Requests that are read together. */
interface LazyBatch<T extends Tensor> {
  /** The requests; a request that is made twice is read once. */
  readonly requests: Set<LoadRequest>;
  readonly load: Promise<Load<T>>;
  /** The callers that wait for the load; they resume over several turns of the event loop if they are many. */
  readonly waiting: PromiseWithResolvers<void>[];
  /** How many tensors `get` has not returned yet. */
  left: number;
}

/** Loads on request: requests of one turn of the event loop are read together. */
export class LazyLoads<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #files: readonly SourceFile[];
  #batch: LazyBatch<T> | undefined;
  /** Settles after the last separate read: requests are read one by one if their batch does not fit in memory. */
  #last: Promise<void> = Promise.resolve();

  /** @param files the files to which requests refer by index; default is the session's */
  constructor(session: Session<T>, files: readonly SourceFile[] = session.context.files) {
    this.#session = session;
    this.#files = files;
  }

  /** Returns the tensor of a request after it has landed. */
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
      return await this.#alone(request); // the tensors of a batch that does not fit can fit one by one
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

  /** Ends a load after `get` has returned all of its tensors; these keep their memory. */
  #retire(load: Load<T>): void {
    const end = () => this.#session.end(load, new Error("All tensors of this load have been returned"));
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
