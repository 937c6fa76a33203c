/**
 * One call after another: every rank must begin the calls of a group in the same order.
 */
import { UseAfterCloseError } from "../../base/errors.ts";

/** The calls of one group. */
export class CallQueue {
  #last: Promise<unknown> = Promise.resolve();
  #failure: Error | undefined;
  #closed = false;

  /** Why no further call is made; undefined as long as all is well. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Makes the call when those before it have ended; rejects if the group has failed or been closed by then. */
  run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closed) {
      return Promise.reject(new UseAfterCloseError("Cannot use the group: it has been closed"));
    }
    const result = this.#last.then(() => {
      if (this.#failure) throw this.#failure;
      return call();
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /** Refuses further calls. The first reason stays. */
  fail(failure: Error): void {
    this.#failure ??= failure;
  }

  /** Refuses further calls, and runs `leave` after the last one; false if the queue was closed before. */
  async close(leave: () => Promise<void>): Promise<boolean> {
    const first = !this.#closed;
    this.#closed = true;
    if (first) this.#last = this.#last.then(leave);
    await this.#last;
    return first;
  }
}
