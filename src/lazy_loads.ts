/**
 * Loading what is asked for, when it is asked for.
 */
import type { Load, LoadRequest } from "./load.ts";
import type { Session } from "./session.ts";
import type { SourceFile } from "./source/source.ts";
import type { Tensor } from "./tensor/tensor.ts";

/** What is read together: the requests, the load, and how many of them are still to be given out. */
interface LazyBatch<T extends Tensor> {
  readonly requests: LoadRequest[];
  readonly load: Promise<Load<T>>;
  waiting: number;
}

/** Loads on demand: what is asked for in one turn of the event loop is read together. */
export class LazyLoads<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #files: readonly SourceFile[];
  #batch: LazyBatch<T> | undefined;

  /** @param files what the requests name by index; default is the session's */
  constructor(session: Session<T>, files: readonly SourceFile[] = session.context.files) {
    this.#session = session;
    this.#files = files;
  }

  /** The tensor of a request, once it has landed. */
  async get(request: LoadRequest): Promise<T> {
    const batch = this.#batch ??= this.#nextBatch();
    batch.requests.push(request);
    batch.waiting++;
    const load = await batch.load;
    try {
      return await load.get(request);
    } finally {
      if (--batch.waiting === 0) this.#retire(load);
    }
  }

  /** Lets go of a load once it is through; its tensors keep their own hold on the memory. */
  #retire(load: Load<T>): void {
    const end = () => this.#session.end(load, new Error("This load has been given out"));
    load.finished().then(end, end);
  }

  #nextBatch(): LazyBatch<T> {
    const requests: LoadRequest[] = [];
    const load = Promise.resolve().then(() => {
      this.#batch = undefined;
      return this.#session.load(requests, this.#files);
    });
    return { requests, load, waiting: 0 };
  }
}
