/**
 * How far the loads of a model are: for its statistics, and for whoever watches.
 */
import type { RunReport } from "./lanes/engine.ts";
import type { CheckedOptions } from "./options.ts";

/** What the loads of one model have done so far, for its statistics. */
export class Tally {
  /** When the last load ended, in milliseconds; null before the first one has, and while one runs. */
  endedAt: number | null = null;
  /** Tensors that have landed. */
  tensors = 0;
  /** File bytes that have landed. */
  bytes = 0;
  /** Lanes of the last load. */
  threads = 0;
  /** The way of the last load's bytes. */
  path: RunReport["path"] | null = null;
  /** What was worth telling, each line once. */
  readonly notes: Set<string>;

  constructor(notes: Iterable<string>) {
    this.notes = new Set(notes);
  }

  /** Notes how a load went that has ended well. */
  add(report: RunReport): void {
    this.threads = report.threads;
    this.path = report.path;
    for (const note of report.notes) this.notes.add(note);
  }
}

/** How often progress is told, in milliseconds. */
const INTERVAL = 50;

/** The progress of one load. */
export class LoadProgress {
  readonly #options: CheckedOptions;
  readonly #tally: Tally;
  readonly #total: { readonly tensors: number; readonly bytes: number };
  #tensors = 0;
  #bytes = 0;
  #toldAt = performance.now();

  /** @param total what the load is to bring */
  constructor(options: CheckedOptions, tally: Tally, total: { tensors: number; bytes: number }) {
    this.#options = options;
    this.#tally = tally;
    this.#total = total;
    tally.endedAt = null;
  }

  /** Adds tensors and file bytes that have landed. */
  add(tensors: number, bytes: number): void {
    this.#tensors += tensors;
    this.#bytes += bytes;
    this.#tally.tensors += tensors;
    this.#tally.bytes += bytes;
    if (this.#bytes === this.#total.bytes) return; // told at the end
    if (performance.now() - this.#toldAt >= INTERVAL) this.#tell();
  }

  /** Notes that the load has ended, well or not. */
  end(): void {
    this.#tally.endedAt = performance.now();
    if (this.#bytes === this.#total.bytes) this.#tell();
  }

  #tell(): void {
    this.#toldAt = performance.now();
    this.#options.onProgress?.({
      bytes: this.#bytes,
      totalBytes: this.#total.bytes,
      tensors: this.#tensors,
      totalTensors: this.#total.tensors,
      seconds: (this.#toldAt - this.#options.startedAt) / 1000,
    });
  }
}
