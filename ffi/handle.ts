/**
 * A C object as TypeScript holds it. C objects are reached through this class only: it counts who uses one, refuses new
 * users once it is closed, and frees it when the last user has left.
 */
import { UseAfterCloseError } from "../src/base/errors.ts";

/** A C object, `T` its pointer, descriptor or number in the shim. */
export class Handle<T = bigint> {
  readonly #name: string;
  readonly #value: T;
  readonly #free: (value: T) => void | Promise<void>;
  #users = 0;
  #closing: PromiseWithResolvers<void> | undefined;

  /**
   * @param name what errors call the object, such as `the MPI group`
   * @param value what the shim calls it
   * @param free frees it; called once, after the last user has left
   */
  constructor(name: string, value: T, free: (value: T) => void | Promise<void>) {
    this.#name = name;
    this.#value = value;
    this.#free = free;
  }

  /** Whether {@linkcode close} was called. */
  get closed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Calls `body` with the object, which stays alive until `body` has returned and a promise that it returned has settled.
   *
   * @param action what errors say the caller wanted, such as `broadcast`
   * @throws {UseAfterCloseError} once the object is closed
   */
  use<R>(action: string, body: (value: T) => R): R {
    if (this.#closing) throw new UseAfterCloseError(`Cannot ${action}: ${this.#name} was closed`);
    this.#users++;
    let result: R;
    try {
      result = body(this.#value);
    } catch (error) {
      this.#leave();
      throw error;
    }
    if (!(result instanceof Promise)) {
      this.#leave();
      return result;
    }
    return result.finally(() => this.#leave()) as R;
  }

  /**
   * Refuses new users; the object is freed once the last one has left. Calling it again waits for the same.
   *
   * @returns resolves when the object has been freed; rejects if freeing it fails
   */
  close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = Promise.withResolvers();
      this.#closing.promise.catch(() => {}); // for callers that close without waiting
      if (this.#users === 0) this.#freeNow(this.#closing);
    }
    return this.#closing.promise;
  }

  #leave(): void {
    if (--this.#users === 0 && this.#closing) this.#freeNow(this.#closing);
  }

  #freeNow(closing: PromiseWithResolvers<void>): void {
    // Without await: what can be freed at once is freed before close() returns.
    try {
      const freed = this.#free(this.#value);
      if (freed instanceof Promise) freed.then(closing.resolve, closing.reject);
      else closing.resolve();
    } catch (error) {
      closing.reject(error);
    }
  }
}
