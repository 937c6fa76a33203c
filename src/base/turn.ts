/**
 * Keeping the event loop free while something long is prepared on its thread.
 */

import type { Steps } from "./steps.ts";

/** How long one turn may hold the event loop, in milliseconds. */
const LONGEST = 8;

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

/** Callers that go on between two looks at the clock. */
const CALLERS = 256;

/** Lets very many callers go on, a few in each turn of the event loop: each may have much to do then. */
export class TurnQueue {
  readonly #turn = new Turn();
  readonly #actions: (() => void)[] = [];
  #count = 0;
  #isRunning = false;

  /** Runs an action: at once, or after those that were added before, perhaps in a later turn of the event loop. */
  add(action: () => void): void {
    if (!this.#isRunning && ++this.#count < CALLERS) return action();
    this.#actions.push(action);
    if (!this.#isRunning) this.#run();
  }

  /** Resolves when it is the caller's turn. */
  next(): Promise<void> {
    return new Promise((resolve) => this.add(resolve));
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let index = 0; index < this.#actions.length; index++) {
      if (index % CALLERS === 0) await this.#turn.pause(); // even a short pause lets callers before do their work
      this.#actions[index]!();
    }
    this.#actions.length = 0;
    this.#count = 0;
    this.#isRunning = false;
  }
}
