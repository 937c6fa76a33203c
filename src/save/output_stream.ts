/**
 * Bytes on their way into files: large ones as they are, small neighbours gathered into blocks, a bounded number of
 * writes in flight.
 */
import type { DType } from "../format/dtype.ts";
import { dtypeBits } from "../format/dtype.ts";
import type { OpenOutput } from "./write_engine.ts";

/** Bytes of one write; a multiple of a page and of every element size. */
const PIECE = 8 * 2 ** 20;

/** Smaller tensors are gathered. */
const SMALL = 2 ** 20;

/** The bytes of one gathered block. */
const GATHERED = 4 * 2 ** 20;

interface Gathered {
  readonly output: OpenOutput;
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  length: number;
}

/** Writes to several files at once. */
export class OutputStream {
  readonly #limit: number;
  readonly #onWritten: (bytes: number) => void;
  readonly #inFlight = new Set<Promise<void>>();
  #gathered: Gathered | undefined;
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param limit writes in flight
   * @param onWritten called with the source bytes of every write that is done
   */
  constructor(limit: number, onWritten: (bytes: number) => void) {
    this.#limit = limit;
    this.#onWritten = onWritten;
  }

  /**
   * Takes bytes for a place in a file; resolves as soon as there is room for more. They must stay as they are until
   * {@linkcode finish} or until the next place that does not follow has been taken.
   */
  async put(
    output: OpenOutput,
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
    from: DType,
    to: DType,
  ): Promise<void> {
    if (from === to && bytes.byteLength < SMALL) return await this.#gather(output, bytes, offset);
    const scale = from === to ? 1 : dtypeBits(to) / dtypeBits(from);
    for (let at = 0; at < bytes.byteLength;) {
      // Pieces that are not cast end at multiples of their size in the file: all but the first are whole pages.
      const stop = from === to ? at + PIECE - (offset + at) % PIECE : at + PIECE;
      await this.#start(output, bytes.subarray(at, stop), offset + at * scale, from, to);
      at = stop;
    }
  }

  /** Waits until everything is written; rejects with the first failure. */
  async finish(): Promise<void> {
    await this.#flush();
    await Promise.all(this.#inFlight);
    if (this.#failure) throw this.#failure.error;
  }

  /** Waits until nothing is being written any more. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#inFlight);
  }

  async #gather(output: OpenOutput, bytes: Uint8Array<ArrayBuffer>, offset: number): Promise<void> {
    const open = this.#gathered;
    const follows = open?.output === output && open.offset + open.length === offset;
    if (!open || !follows || open.length + bytes.byteLength > GATHERED) await this.#flush();
    this.#gathered ??= { output, offset, bytes: new Uint8Array(GATHERED), length: 0 };
    this.#gathered.bytes.set(bytes, this.#gathered.length);
    this.#gathered.length += bytes.byteLength;
  }

  async #flush(): Promise<void> {
    const gathered = this.#gathered;
    this.#gathered = undefined;
    if (!gathered) return;
    await this.#start(
      gathered.output,
      gathered.bytes.subarray(0, gathered.length),
      gathered.offset,
      "U8",
      "U8",
    );
  }

  async #start(
    output: OpenOutput,
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
    from: DType,
    to: DType,
  ): Promise<void> {
    while (this.#inFlight.size >= this.#limit) await Promise.race(this.#inFlight);
    if (this.#failure) throw this.#failure.error;
    const { byteLength } = bytes;
    const write = output.write(bytes, offset, from, to).then(
      () => this.#onWritten(byteLength),
      (error) => {
        this.#failure ??= { error };
      },
    ).finally(() => this.#inFlight.delete(write));
    this.#inFlight.add(write);
  }
}
