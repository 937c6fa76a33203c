/**
 * How far loads and saves are, for whoever watches.
 */

/**
 * How far a load has come: that of all tensors, of an iteration, or of everything that a lazy model has been asked for so
 * far. Of a save the same, with what has been written.
 */
export interface Progress {
  /** File bytes that have landed. */
  readonly bytes: number;
  /** File bytes in all; those of all batches. */
  readonly totalBytes: number;
  /** Tensors that have landed. */
  readonly tensors: number;
  /** Tensors in all. */
  readonly totalTensors: number;
  /** Seconds since the load began. */
  readonly seconds: number;
}

/** What is to be done. */
export interface Work {
  readonly tensors: number;
  /** Bytes of files. */
  readonly bytes: number;
}

/** Who watches, and since when. */
export interface ProgressWatch {
  /** Called with each report. */
  readonly onProgress: ((progress: Progress) => void) | undefined;
  /** When the work began: `performance.now()`, in milliseconds. */
  readonly startedAt: number;
}

/** How often progress is reported, in milliseconds. */
const INTERVAL = 50;

/** Counts what is to be done and what has been done, and reports it. */
export class ProgressCounter {
  /** Tensors that are done. */
  tensors = 0;
  /** File bytes that are done. */
  bytes = 0;
  readonly #watch: ProgressWatch;
  readonly #total = { tensors: 0, bytes: 0 };
  #reportedAt = performance.now();

  constructor(watch: ProgressWatch) {
    this.#watch = watch;
  }

  /** Adds to what is to be done. */
  expect({ tensors, bytes }: Work): void {
    this.#total.tensors += tensors;
    this.#total.bytes += bytes;
  }

  /** Whether no tensor is left to be done. */
  get isComplete(): boolean {
    return this.tensors === this.#total.tensors;
  }

  /** Reports, unless the last report was made just now. */
  reportNowAndThen(): void {
    if (performance.now() - this.#reportedAt >= INTERVAL) this.report();
  }

  /** Reports. */
  report(): void {
    this.#reportedAt = performance.now();
    this.#watch.onProgress?.({
      bytes: Math.min(this.bytes, this.#total.bytes), // what is read once more does not count twice
      totalBytes: this.#total.bytes,
      tensors: this.tensors,
      totalTensors: this.#total.tensors,
      seconds: (this.#reportedAt - this.#watch.startedAt) / 1000,
    });
  }
}
