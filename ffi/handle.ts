/**
 * Handles of C objects. TypeScript accesses C objects only through this class: it counts the users of an object, rejects
 * new users after it is closed, and frees it after the last user has ended.
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
   * @param name the name of the object in errors, such as `the MPI group`
   * @param value the object: a pointer, a descriptor or a number
   * @param free frees it; called once, after the last user has ended
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
   * Calls `body` with the object, which stays valid until `body` has returned and its promise has settled.
   *
   * @param action the caller's action for errors, such as `broadcast`
   * @throws {UseAfterCloseError} after the object is closed
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
   * Rejects new users; the object is freed after the last user has ended. Later calls return the same promise.
   *
   * @returns resolves after the object has been freed; rejects if `free` fails
   */
  close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = Promise.withResolvers();
      this.#closing.promise.catch(() => {}); // for callers that do not await close()
      if (this.#users === 0) this.#freeNow(this.#closing);
    }
    return this.#closing.promise;
  }

  #leave(): void {
    if (--this.#users === 0 && this.#closing) this.#freeNow(this.#closing);
  }

  #freeNow(closing: PromiseWithResolvers<void>): void {
    // Without `await`, so that an object without users is freed before close() returns.
    try {
      const freed = this.#free(this.#value);
      if (freed instanceof Promise) freed.then(closing.resolve, closing.reject);
      else closing.resolve();
    } catch (error) {
      closing.reject(error);
    }
  }
}
