/**
 * Long work that can be interrupted: whoever runs it may do something else at each `yield`.
 */

/** Work in steps of well under a millisecond, and its result. */
export type Steps<R> = Generator<void, R, void>;

/** Items of a list, such as tensors, that are one step. */
export const STEP = 1024;

/** Does all steps at once. */
export function finishNow<R>(steps: Steps<R>): R {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}
