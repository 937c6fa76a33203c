/**
 * Promises that are given to users: one that rejects while nobody waits for it does not end the process.
 *
 * {@linkcode SafeTensorsModel.close} rejects what is still being read. A caller may have no handler on such a promise yet:
 * `return model.getTensor(name)` below an `await using model` has none. Whoever awaits it, before or after, gets the
 * error all the same.
 */

/** The same promise, marked as handled. */
export function handled<R>(promise: Promise<R>): Promise<R> {
  promise.catch(() => {});
  return promise;
}

/** The same generator, of whose methods each promise is marked as handled. */
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
