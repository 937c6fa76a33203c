/**
 * What the queue has been given and may not have carried out yet, kept small.
 *
 * Deno's `onSubmittedWorkDone` holds the event loop until the queue is empty. So it is called rarely, and the more
 * often the longer it takes: a queue that keeps up is let run, one that lags is never far behind, and neither it nor
 * the memory that `writeBuffer` copies through grows with the load.
 */
import { PIECE, turn } from "./pieces.ts";

/** Bytes that are handed over before the queue is waited for, at most. */
const MOST = 16 * PIECE;

/** How long the event loop may be held by a wait, in milliseconds: about as long as one piece takes. */
const LONGEST = 4;

/** The work of one load. */
export class Backlog {
  readonly #queue: GPUQueue;
  readonly #waits: Promise<unknown>[] = [];
  #bytes = 0;
  #limit = MOST;

  constructor(queue: GPUQueue) {
    this.#queue = queue;
  }

  /** Counts what was handed over, and waits for the queue if that has become too much. */
  async add(bytes: number): Promise<void> {
    this.#bytes += bytes;
    if (this.#bytes < this.#limit) return;
    await turn(); // not in the same one as the call that handed over
    const held = this.#wait();
    this.#limit = held > LONGEST ? Math.max(PIECE, this.#limit / 2) : Math.min(MOST, this.#limit * 2);
  }

  /** Resolves once everything has been carried out, or the device is lost. */
  async settled(): Promise<void> {
    this.#wait();
    await this.ended();
  }

  /** Resolves once every wait that was begun is over. */
  async ended(): Promise<void> {
    await Promise.all(this.#waits);
  }

  /** Waits until the queue is empty; how long that took, in milliseconds. */
  #wait(): number {
    const began = performance.now();
    this.#waits.push(this.#queue.onSubmittedWorkDone().catch(() => {})); // a lost device is told by itself
    this.#bytes = 0;
    return performance.now() - began;
  }
}
