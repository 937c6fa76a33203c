/**
 * Long work in steps: other work can run at each `yield`.
 */

/** Work in steps of well under a millisecond, and its result. */
export type Steps<R> = Generator<void, R, void>;

/** Items of a list, such as tensors, in one step. */
export const STEP = 1024;

/** Calls a function for each item of a list, in steps. A loop over `entries()` in a generator is ten times as slow. */
export function* inSteps<T>(items: readonly T[], visit: (item: T, index: number) => void): Steps<void> {
  for (let index = 0; index < items.length; index++) {
    if (index % STEP === 0) yield;
    visit(items[index]!, index);
  }
}

/** Runs all steps without a pause. */
export function finishNow<R>(steps: Steps<R>): R {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/**
 * Like `Object.entries`, but with pauses: it takes long for very many names. The list of the names is still made at once,
 * in 50 ms for about 200,000, because JavaScript has no iterator over the keys of an object.
 */
export function* entriesOf<T>(record: Readonly<Record<string, T>>): Generator<[string, T], void, void> {
  for (const name of Object.keys(record)) yield [name, record[name]!];
}

/** Sorts in steps, with a stable merge sort of short sorted runs. */
export function* sortInSteps<R>(items: readonly R[], compare: (a: R, b: R) => number): Steps<R[]> {
  let runs: R[][] = [];
  for (let at = 0; at < items.length; at += 2048) {
    runs.push(items.slice(at, at + 2048).sort(compare));
    yield;
  }
  while (runs.length > 1) {
    const merged: R[][] = [];
    for (let pair = 0; pair < runs.length; pair += 2) {
      const [a, b = []] = [runs[pair]!, runs[pair + 1]];
      const both: R[] = [];
      for (let i = 0, j = 0; i < a.length || j < b.length;) {
        both.push(j >= b.length || (i < a.length && compare(a[i]!, b[j]!) <= 0) ? a[i++]! : b[j++]!);
        if (both.length % 2048 === 0) yield;
      }
      merged.push(both);
    }
    runs = merged;
  }
  return runs[0] ?? [];
}
