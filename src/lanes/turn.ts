/**
 * Keeping the event loop free while something long is prepared on its thread.
 */

/** How long one turn may hold the event loop, in milliseconds. */
const LONGEST = 4;

/** A long piece of work in several turns of the event loop. */
export class Turn {
  #began = performance.now();

  /** Lets others have their turn, if this one has lasted. */
  async pause(): Promise<void> {
    if (performance.now() - this.#began < LONGEST) return;
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#began = performance.now();
  }
}
