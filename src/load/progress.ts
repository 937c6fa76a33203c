/**
 * How far the loads of a model are: for its statistics, and for whoever watches.
 */
import { ProgressCounter, type ProgressWatch } from "../base/progress.ts";
import type { LoadWay } from "./engine.ts";

/** What the loads of one model, or of one iteration, are to bring and have brought. */
export class Tally extends ProgressCounter {
  /** When the last load ended, in milliseconds; null before the first one has, and while one runs. */
  endedAt: number | null = null;
  /** The way of most of the bytes of the last load from which bytes have landed. */
  way: LoadWay | null = null;
  /** What a user should know, each line once. */
  readonly notes: Set<string>;
  #running = 0;

  constructor(watch: ProgressWatch, notes: Iterable<string>) {
    super(watch);
    this.notes = new Set(notes);
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
    if (!this.isComplete) this.reportNowAndThen(); // the end is reported by end()
  }

  /** Notes that a load has ended, well or not. */
  end(): void {
    if (--this.#running > 0) return;
    this.endedAt = performance.now();
    if (this.isComplete) this.report();
  }
}
