/**
 * Promises for users that do not end the process if they reject without a handler.
 *
 * {@linkcode SafeTensorsModel.close} rejects promises of reads in progress. Such a promise can have no handler yet, as in
 * `return model.getTensor(name)` after `await using model`. Code that awaits it, earlier or later, still gets the error.
 */

/** Marks a promise as handled and returns it. */
export function handled<R>(promise: Promise<R>): Promise<R> {
  promise.catch(ignore);
  return promise;
}

/** Makes an asynchronous call, and marks its promise as handled. */
export function handledCall<R>(call: () => Promise<R>): Promise<R> {
  return handled(call());
}

/** Marks all promises that a generator's methods return as handled. */
export function handledGenerator<T>(
  generator: AsyncGenerator<T, void, void>,
): AsyncGenerator<T, void, void> {
  const next = generator.next.bind(generator);
  const end = generator.return.bind(generator);
  const fail = generator.throw.bind(generator);
  return Object.assign(generator, {
    next: () => handled(next()),
    return: (value: void | PromiseLike<void>) => handled(end(value)),
    throw: (error: unknown) => handled(fail(error)),
  });
}

/** Waits for all results; if one failed, disposes the others and throws its error. */
export async function allOrDispose<R>(promises: readonly Promise<R>[]): Promise<R[]> {
  const outcomes = await Promise.allSettled(promises);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (!failed) return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<R>).value);
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled") (outcome.value as Partial<Disposable>)[Symbol.dispose]?.();
  }
  throw failed.reason;
}

/** One function for all promises, of which there can be very many. */
function ignore(): void {}
