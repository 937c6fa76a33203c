/**
 * Divides long work on the thread of the event loop into short turns.
 */

import type { Steps } from "./steps.ts";

/** Longest time of one turn, in milliseconds. */
const LONGEST = 8;

/** Long work in several turns of the event loop. */
export class Turn {
  #began = performance.now();

  /** Whether the time of this turn is over. */
  get isLong(): boolean {
    return performance.now() - this.#began >= LONGEST;
  }

  /** Waits for the next turn of the event loop, if the time of this turn is over. */
  async pause(): Promise<void> {
    if (!this.isLong) return;
    await nextTurn();
    this.#began = performance.now();
  }
}

/** Turns of the event loop that very many short pieces of work share. */
export class SharedTurn {
  #busy = 0;
  #next: Promise<void> | undefined;

  /** Runs work that takes less than a millisecond: now, or in a later turn if the work before has taken long. */
  async run<R>(work: () => R): Promise<R> {
    while (this.#busy >= LONGEST) await (this.#next ??= this.#pause());
    const began = performance.now();
    try {
      return work();
    } finally {
      this.#busy += performance.now() - began;
    }
  }

  async #pause(): Promise<void> {
    await nextTurn();
    this.#busy = 0;
    this.#next = undefined;
  }
}

/**
 * Resolves in the next turn of the event loop, after timers and input that are due. A timer of 0 would take 1 to 2 ms:
 * many tensors need a hundred turns.
 */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => inNextTurn(resolve));
}

/** Calls back in the next turn of the event loop. Browsers do not have `setImmediate`; a message replaces it. */
const inNextTurn: (callback: () => void) => void = globalThis.setImmediate ?? ((callback) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close(); // an open port does not let the process end
    port2.close();
    callback();
  };
  port2.postMessage(null);
});

/** Runs work in steps, in as many turns of the event loop as it needs. */
export async function finishInTurns<R>(steps: Steps<R>): Promise<R> {
  const turn = new Turn();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (turn.isLong) await turn.pause();
  }
}

/** Callers that continue between two checks of the time. */
const CALLERS = 256;

/** Resumes very many callers, a few in each turn of the event loop, because each can have much work. */
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

  /** Resolves in the turn of the caller. */
  next(): Promise<void> {
    return new Promise((resolve) => this.add(resolve));
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let index = 0; index < this.#actions.length; index++) {
      if (index % CALLERS === 0) await this.#turn.pause(); // a short pause is enough for the earlier callers to run
      this.#actions[index]!();
    }
    this.#actions.length = 0;
    this.#count = 0;
    this.#isRunning = false;
  }
}
