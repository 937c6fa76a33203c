/**
 * How far a save is, for whoever watches.
 */
import type { Progress } from "../model/options.ts";

/** How often progress is told, in milliseconds. */
const INTERVAL = 50;

/** What has been written so far. Bytes are counted before a cast. */
export class SaveProgress {
  /** Tensors that have been taken to be written. */
  tensors = 0;
  readonly #total: { tensors: number; bytes: number };
  readonly #startedAt: number;
  readonly #onProgress: ((progress: Progress) => void) | undefined;
  #bytes = 0;
  #toldAt: number;

  /**
   * @param total what is to be written
   * @param startedAt when the save began: `performance.now()`
   */
  constructor(
    total: { tensors: number; bytes: number },
    startedAt: number,
    onProgress: ((progress: Progress) => void) | undefined,
  ) {
    this.#total = { ...total };
    this.#startedAt = this.#toldAt = startedAt;
    this.#onProgress = onProgress;
  }

  /** Adds bytes that have been written. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (performance.now() - this.#toldAt >= INTERVAL) this.tell();
  }

  /** Adds to what there is to write: a tensor came with another size than was announced. */
  grow(bytes: number): void {
    this.#total.bytes += bytes;
  }

  /** Tells how far it is. */
  tell(): void {
    this.#toldAt = performance.now();
    this.#onProgress?.({
      bytes: this.#bytes,
      totalBytes: this.#total.bytes,
      tensors: this.tensors,
      totalTensors: this.#total.tensors,
      seconds: (this.#toldAt - this.#startedAt) / 1000,
    });
  }
}
