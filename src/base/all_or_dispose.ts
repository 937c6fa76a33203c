/**
 * Waits for resources that are made together.
 */

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
