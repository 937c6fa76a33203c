/**
 * What a stress job and the test that runs it must know both.
 */

/** The next of a series of random whole numbers: from 0 to less than `limit`. */
export type Random = (limit: number) => number;

/** A series that is the same for the same seed (mulberry32). */
export function random(seed: number): Random {
  let state = Math.imul(seed + 1, 0x9e3779b9);
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * limit);
  };
}

/** How the processes of a job end: and with which status of the job. */
export const ENDINGS = { close: 0, exit: 0, fail: 3, throw: 1 } as const;

/** How those of the job with this seed do. */
export function endingOf(seed: number): keyof typeof ENDINGS {
  const names = Object.keys(ENDINGS) as (keyof typeof ENDINGS)[];
  const next = random(seed ^ 0x5eed);
  next(2); // the first numbers of near seeds are near
  return names[next(names.length)]!;
}
