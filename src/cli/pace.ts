/**
 * How fast something goes, and how long it will take.
 */

/** Milliseconds that the pace is taken over: long enough for a steady figure, short enough for a true one. */
const WINDOW = 3000;

/** Too soon to tell, in milliseconds. */
const FIRST = 200;

/** The pace of the last seconds. Times are in milliseconds from any beginning. */
export class Pace {
  /** Oldest first; the first one is where the window begins. */
  readonly #samples: { readonly at: number; readonly bytes: number }[];

  constructor(startedAt: number) {
    this.#samples = [{ at: startedAt, bytes: 0 }];
  }

  /** Takes down how far it is. */
  add(at: number, bytes: number): void {
    this.#samples.push({ at, bytes });
    while (this.#samples.length > 2 && this.#samples[1]!.at <= at - WINDOW) this.#samples.shift();
  }

  /** Bytes per second; 0 while it is too soon to tell. */
  get bytesPerSecond(): number {
    const first = this.#samples[0]!, last = this.#samples.at(-1)!;
    const elapsed = last.at - first.at;
    return elapsed < FIRST ? 0 : (last.bytes - first.bytes) / elapsed * 1000;
  }

  /** Seconds that are left until `totalBytes`; null while nothing moves. */
  secondsLeft(totalBytes: number): number | null {
    const pace = this.bytesPerSecond;
    return pace <= 0 ? null : Math.max(0, totalBytes - this.#samples.at(-1)!.bytes) / pace;
  }
}
