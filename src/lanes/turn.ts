/**
 * Keeping the event loop free while something long is prepared on its thread.
 */

import type { Steps } from "../format/steps.ts";

/** How long one turn may hold the event loop, in milliseconds. */
const LONGEST = 4;

/** A long piece of work in several turns of the event loop. */
export class Turn {
  #began = performance.now();

  /** Whether this turn has lasted. */
  get isLong(): boolean {
    return performance.now() - this.#began >= LONGEST;
  }

  /** Lets others have their turn, if this one has lasted. */
  async pause(): Promise<void> {
    if (!this.isLong) return;
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#began = performance.now();
  }
}

/** Does work in steps, in as many turns of the event loop as it needs. */
export async function finishInTurns<R>(steps: Steps<R>): Promise<R> {
  const turn = new Turn();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (turn.isLong) await turn.pause();
  }
}
