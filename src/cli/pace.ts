/**
 * The pace of a load or conversion: its rate and its remaining time.
 */

/** Milliseconds over which the rate is measured: long enough for a steady figure, short enough for a current one. */
const WINDOW = 3000;

/** The rate is 0 until this much time has passed, in milliseconds. */
const FIRST = 1000;

/** There is no estimate before this part is done: the first bytes are slower than the others. */
const FIRST_PART = 0.01;

/** The rate of the last seconds. Times are in milliseconds from any origin. */
export class Pace {
  /** Oldest first; the window begins at the first one. */
  readonly #samples: { readonly at: number; readonly bytes: number }[];

  constructor(startedAt: number) {
    this.#samples = [{ at: startedAt, bytes: 0 }];
  }

  /** Records the progress. */
  add(at: number, bytes: number): void {
    this.#samples.push({ at, bytes });
    while (this.#samples.length > 2 && this.#samples[1]!.at <= at - WINDOW) this.#samples.shift();
  }

  /** Bytes per second; 0 while too little time has passed. */
  get bytesPerSecond(): number {
    const first = this.#samples[0]!, last = this.#samples.at(-1)!;
    const elapsed = last.at - first.at;
    return elapsed < FIRST ? 0 : (last.bytes - first.bytes) / elapsed * 1000;
  }

  /** Seconds left until `totalBytes`; null while the rate is 0, at the beginning and at the end. */
  secondsLeft(totalBytes: number): number | null {
    const rate = this.bytesPerSecond, { bytes } = this.#samples.at(-1)!;
    const isEarly = rate <= 0 || bytes < totalBytes * FIRST_PART;
    return isEarly || bytes >= totalBytes ? null : (totalBytes - bytes) / rate;
  }
}
