/**
 * Counts and reports the progress of loads and saves.
 */

/**
 * The progress of a load: of all tensors, of an iteration, or of the requests of a lazy model so far. For a save it
 * counts written bytes and tensors.
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

/** The amount of work. */
export interface Work {
  readonly tensors: number;
  /** Bytes of files. */
  readonly bytes: number;
}

/** The receiver of reports, and the start of the work. */
export interface ProgressWatch {
  /** Called with each report. */
  readonly onProgress: ((progress: Progress) => void) | undefined;
  /** Start of the work: `performance.now()`, in milliseconds. */
  readonly startedAt: number;
}

/** Time between two reports, in milliseconds. */
const INTERVAL = 50;

/** Counts the work in all and the work done, and reports both. */
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

  /** Adds to the work in all. */
  expect({ tensors, bytes }: Work): void {
    this.#total.tensors += tensors;
    this.#total.bytes += bytes;
  }

  /** Whether all tensors are done. */
  get isComplete(): boolean {
    return this.tensors === this.#total.tensors;
  }

  /** Reports, if enough time has passed since the last report. */
  reportNowAndThen(): void {
    if (performance.now() - this.#reportedAt >= INTERVAL) this.report();
  }

  report(): void {
    this.#reportedAt = performance.now();
    this.#watch.onProgress?.({
      bytes: Math.min(this.bytes, this.#total.bytes), // bytes that are read again do not count twice
      totalBytes: this.#total.bytes,
      tensors: this.tensors,
      totalTensors: this.#total.tensors,
      seconds: (this.#reportedAt - this.#watch.startedAt) / 1000,
    });
  }
}
