/**
 * Limits the work that was submitted to the queue and has not ended.
 *
 * Deno's `onSubmittedWorkDone` blocks the event loop until the queue is empty. Therefore it is called rarely, but more
 * often if it takes longer: a fast queue runs without waits, and a slow queue never has much pending work. The queue and
 * the memory that `writeBuffer` uses for copies do not grow with the load.
 */
import { nextTurn } from "../../base/turn.ts";
import { PIECE } from "./pieces.ts";

/** Most bytes that are submitted before a wait for the queue. */
const MOST = 16 * PIECE;

/** Longest time that a wait can block the event loop, in milliseconds: about the time of one piece. */
const LONGEST = 4;

/** The submitted work of one load. */
export class Backlog {
  readonly #queue: GPUQueue;
  readonly #waits: Promise<unknown>[] = [];
  #bytes = 0;
  #limit = MOST;

  constructor(queue: GPUQueue) {
    this.#queue = queue;
  }

  /** Counts submitted bytes, and waits for the queue if they are too many. */
  async add(bytes: number): Promise<void> {
    this.#bytes += bytes;
    if (this.#bytes < this.#limit) return;
    await nextTurn(); // not in the turn of the call that submitted the bytes
    const held = this.#wait();
    this.#limit = held > LONGEST ? Math.max(PIECE, this.#limit / 2) : Math.min(MOST, this.#limit * 2);
  }

  /** Resolves after all work has ended, or the device is lost. */
  async settled(): Promise<void> {
    this.#wait();
    await this.ended();
  }

  /** Resolves after all started waits have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#waits);
  }

  /** Waits until the queue is empty; returns the time of the wait in milliseconds. */
  #wait(): number {
    const began = performance.now();
    this.#waits.push(this.#queue.onSubmittedWorkDone().catch(() => {})); // the loss of the device is reported separately
    this.#bytes = 0;
    return performance.now() - began;
  }
}
