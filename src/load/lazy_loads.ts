/**
 * Loads tensors on request.
 */
import { OutOfMemoryError } from "../base/errors.ts";
import type { Load, LoadRequest } from "./load.ts";
import { Turn } from "../base/turn.ts";
import type { Session } from "./session.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** A caller that waits for a tensor. */
interface Caller<T extends Tensor> {
  resolve(tensor: T): void;
  reject(error: unknown): void;
}

/** A request that was made and has not been answered. */
interface Pending<T extends Tensor> {
  /** The same for requests with the same result. */
  readonly key: unknown;
  readonly request: LoadRequest;
  readonly callers: Caller<T>[];
}

/**
 * Loads on request: requests of one turn of the event loop are read together, and a request that is made again before its
 * tensor has landed is read once.
 */
export class LazyLoads<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #files: readonly SourceFile[];
  /** The requests of this turn. */
  #batch: Pending<T>[] = [];
  /** All requests without an answer, by their keys. */
  readonly #pending = new Map<unknown, Pending<T>>();
  /** Settles after the last separate read: requests are read one by one if their batch does not fit in memory. */
  #last: Promise<void> = Promise.resolve();

  /** @param files the files to which requests refer by index; default is the session's */
  constructor(session: Session<T>, files: readonly SourceFile[] = session.context.files) {
    this.#session = session;
    this.#files = files;
  }

  /** Returns the tensor of a request after it has landed; each call returns a new handle. */
  get(request: LoadRequest): Promise<T> {
    const key = keyOf(request);
    let pending = this.#pending.get(key);
    if (!pending) {
      pending = { key, request, callers: [] };
      this.#pending.set(key, pending);
      if (this.#batch.push(pending) === 1) queueMicrotask(() => this.#start());
    }
    const { callers } = pending;
    return new Promise((resolve, reject) => void callers.push({ resolve, reject }));
  }

  #start(): void {
    const batch = this.#batch;
    this.#batch = [];
    this.#answerAll(batch);
  }

  /** Answers every request of a batch; never rejects. */
  async #answerAll(batch: readonly Pending<T>[]): Promise<void> {
    try {
      await this.#load(batch);
    } catch (error) {
      if (error instanceof OutOfMemoryError && batch.length > 1) return this.#answerOneByOne(batch);
      const turn = new Turn();
      for (const pending of batch) {
        await turn.pause();
        this.#reject(pending, error);
      }
    }
  }

  /** The tensors of a batch that does not fit can fit one by one. */
  #answerOneByOne(batch: readonly Pending<T>[]): void {
    for (const pending of batch) this.#last = this.#last.then(() => this.#answerAll([pending]));
  }

  /** Loads a batch: one small request in one read, others by a load. */
  async #load(batch: readonly Pending<T>[]): Promise<void> {
    const [first] = batch;
    const small = batch.length === 1 ? this.#session.loadSmall(first!.request, this.#files) : null;
    if (small) return await this.#answer(first!, await small);
    const requests = batch.map(({ request }) => request);
    const load = await this.#session.load(requests, { files: this.#files, joinsGaps: true });
    try {
      await this.#answerLanded(load, batch);
    } finally {
      const end = () => this.#session.end(load, new Error("All tensors of this load have been returned"));
      load.finished().then(end, end);
    }
  }

  /** Answers the requests of a load in the order in which they land; after a failure each by itself. */
  async #answerLanded(load: Load<T>, batch: readonly Pending<T>[]): Promise<void> {
    const left = new Map(batch.map((pending) => [pending.request, pending]));
    try {
      for await (const [request, tensor] of load.landing()) {
        const pending = left.get(request)!;
        left.delete(request);
        await this.#answer(pending, tensor);
      }
    } catch {
      const turn = new Turn();
      const answers: Promise<void>[] = [];
      for (const pending of left.values()) {
        await turn.pause();
        answers.push(
          load.get(pending.request).then(
            (tensor) => this.#answer(pending, tensor),
            (error) => this.#reject(pending, error),
          ),
        );
      }
      await Promise.all(answers);
    }
  }

  /** Returns a tensor to its callers: a handle to each; of a slice a copy to each, as an eager model does. */
  async #answer({ key, request, callers: [first, ...others] }: Pending<T>, tensor: T): Promise<void> {
    this.#pending.delete(key);
    for (const { resolve, reject } of others) {
      if (request.isSlice) await (tensor.copy() as Promise<T>).then(resolve, reject);
      else resolve(tensor.named(tensor.name) as T);
    }
    first!.resolve(tensor);
  }

  #reject({ key, callers }: Pending<T>, error: unknown): void {
    this.#pending.delete(key);
    for (const { reject } of callers) reject(error);
  }
}

/** Equal for requests with the same result: a text, or the request itself if only its function knows what it reads. */
function keyOf(request: LoadRequest): unknown {
  const { name, target, file, fileOffset, run, shape, levels } = request;
  if (request.assemble) return request;
  const ranges = levels.map(({ count, stride }) => `${count}*${stride}`);
  return `${target} ${file} ${fileOffset} ${run} ${shape} ${ranges} ${name}`;
}
