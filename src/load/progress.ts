/**
 * Counts the progress of a model's loads, for statistics and for the option `onProgress`.
 */
import { ProgressCounter, type ProgressWatch } from "../base/progress.ts";
import type { LoadWay } from "./engine.ts";

/** Counts the tensors and bytes of the loads of one model or one iteration: expected and landed. */
export class LoadCounter extends ProgressCounter {
  /** Time at which the last load ended, in milliseconds; null before the first end, and while a load runs. */
  endedAt: number | null = null;
  /** The path of most of the bytes of the last load whose bytes have landed. */
  way: LoadWay | null = null;
  /** Notes for the user, each line once. */
  readonly notes: Set<string>;
  #running = 0;

  constructor(watch: ProgressWatch, notes: Iterable<string>) {
    super(watch);
    this.notes = new Set(notes);
  }

  /** Records the start of a load. */
  begin(): void {
    this.#running++;
    this.endedAt = null;
  }

  /** Adds tensors and file bytes that have landed. */
  add(tensors: number, bytes: number): void {
    this.tensors += tensors;
    this.bytes += bytes;
    if (!this.isComplete) this.reportNowAndThen(); // end() reports the end
  }

  /** Records the end of a load, with or without an error. */
  end(): void {
    if (--this.#running > 0) return;
    this.endedAt = performance.now();
    if (this.isComplete) this.report();
  }
}
