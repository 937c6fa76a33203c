/**
 * Loads tensors on request.
 */
import { OutOfMemoryError } from "../base/errors.ts";
import type { LoadRequest } from "./load.ts";
import { TurnQueue } from "../base/turn.ts";
import type { Session } from "./session.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** Requests that are read together. */
interface LazyBatch<T extends Tensor> {
  /** The requests; a request that is made twice is read once. */
  readonly requests: Set<LoadRequest>;
  readonly load: Promise<Landing<T>>;
  /** The callers that wait for the load; they resume over several turns of the event loop if they are many. */
  readonly waiting: PromiseWithResolvers<void>[];
  /** How many tensors `get` has not returned yet. */
  left: number;
}

/** Tensors that land together. */
interface Landing<T extends Tensor> {
  /** Returns the tensor of a request after it has landed; each call returns a new handle. */
  get(request: LoadRequest): Promise<T>;
  /** Releases the landing's references to the memory after `get` has returned all tensors; these keep their memory. */
  retire(): void;
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
    let load: Landing<T>;
    try {
      load = await batch.load;
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || batch.requests.size === 1) throw error;
      return await this.#alone(request); // the tensors of a batch that does not fit can fit one by one
    }
    try {
      return await load.get(request);
    } finally {
      if (--batch.left === 0) load.retire();
    }
  }

  #alone(request: LoadRequest): Promise<T> {
    const tensor = this.#last.then(async () => {
      const load = await this.#load([request]);
      try {
        return await load.get(request);
      } finally {
        load.retire();
      }
    });
    this.#last = tensor.then(() => {}, () => {});
    return tensor;
  }

  /** Loads requests: one small one in one read, others by a load. */
  async #load(requests: readonly LoadRequest[]): Promise<Landing<T>> {
    const small = requests.length === 1 ? this.#session.loadSmall(requests[0]!, this.#files) : null;
    if (small) {
      const tensor = await small;
      return {
        get: ({ name }) => Promise.resolve(tensor.named(name) as T),
        retire: () => tensor[Symbol.dispose](),
      };
    }
    const load = await this.#session.load(requests, { files: this.#files });
    const end = () => this.#session.end(load, new Error("All tensors of this load have been returned"));
    return {
      get: (request) => load.get(request),
      retire: () => void load.finished().then(end, end),
    };
  }

  #nextBatch(): LazyBatch<T> {
    const requests = new Set<LoadRequest>();
    const load = Promise.resolve().then(() => {
      this.#batch = undefined;
      return this.#load([...requests]);
    });
    const batch: LazyBatch<T> = { requests, load, waiting: [], left: 0 };
    const queue = new TurnQueue();
    const startAll = () => batch.waiting.forEach(({ resolve }) => queue.add(resolve));
    load.then(startAll, startAll);
    return batch;
  }
}
