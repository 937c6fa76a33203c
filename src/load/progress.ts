/**
 * How far the loads of a model are: for its statistics, and for whoever watches.
 */
import type { LoadWay } from "./engine.ts";
import type { CheckedOptions } from "../model/options.ts";

/** How often progress is reported, in milliseconds. */
const INTERVAL = 50;

/** What loads bring. */
export interface Work {
  readonly tensors: number;
  /** Bytes of files. */
  readonly bytes: number;
}

/** What the loads of one model, or of one iteration, are to bring and have brought. */
export class Tally {
  /** When the last load ended, in milliseconds; null before the first one has, and while one runs. */
  endedAt: number | null = null;
  /** Tensors that have landed. */
  tensors = 0;
  /** File bytes that have landed. */
  bytes = 0;
  /** The way of most of the bytes of the last load from which bytes have landed. */
  way: LoadWay | null = null;
  /** What a user should know, each line once. */
  readonly notes: Set<string>;
  readonly #options: Pick<CheckedOptions, "onProgress" | "startedAt">;
  readonly #total = { tensors: 0, bytes: 0 };
  #running = 0;
  #reportedAt = performance.now();

  constructor(options: Pick<CheckedOptions, "onProgress" | "startedAt">, notes: Iterable<string>) {
    this.#options = options;
    this.notes = new Set(notes);
  }

  /** Adds what is to be brought. Known ahead for all loads of an iteration, so that the total is that of all of them. */
  expect({ tensors, bytes }: Work): void {
    this.#total.tensors += tensors;
    this.#total.bytes += bytes;
  }

  /** Notes that a load has begun. */
  begin(): void {
    this.#running++;
    this.endedAt = null;
  }

  /** Adds tensors and file bytes that have landed. */
  add(tensors: number, bytes: number): void {
    this.tensors += tensors;
    this.bytes += bytes;
    if (this.#isComplete) return; // reported at the end
    if (performance.now() - this.#reportedAt >= INTERVAL) this.#report();
  }

  /** Notes that a load has ended, well or not. */
  end(): void {
    if (--this.#running > 0) return;
    this.endedAt = performance.now();
    if (this.#isComplete) this.#report();
  }

  get #isComplete(): boolean {
    return this.tensors === this.#total.tensors;
  }

  #report(): void {
    this.#reportedAt = performance.now();
    this.#options.onProgress?.({
      bytes: Math.min(this.bytes, this.#total.bytes), // what is read once more does not count twice
      totalBytes: this.#total.bytes,
      tensors: this.tensors,
      totalTensors: this.#total.tensors,
      seconds: (this.#reportedAt - this.#options.startedAt) / 1000,
    });
  }
}
