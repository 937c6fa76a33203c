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

/** Neighbours that will be one write. */
interface Gathered {
  readonly output: OpenOutput;
  readonly offset: number;
  readonly parts: Uint8Array<ArrayBuffer>[];
  readonly done: (() => void)[];
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
   * they are written.
   *
   * @param done called once they are written, or never will be
   */
  async put(
    output: OpenOutput,
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
    from: DType,
    to: DType,
    done: () => void = () => {},
  ): Promise<void> {
    if (from === to && bytes.byteLength < SMALL) return await this.#gather(output, bytes, offset, done);
    const scale = from === to ? 1 : dtypeBits(to) / dtypeBits(from);
    let pieces = 1;
    const pieceDone = () => {
      if (--pieces === 0) done();
    };
    for (let at = 0; at < bytes.byteLength;) {
      // Pieces that are not cast end at multiples of their size in the file: all but the first are whole pages.
      const stop = from === to ? at + PIECE - (offset + at) % PIECE : at + PIECE;
      pieces++;
      await this.#start(output, bytes.subarray(at, stop), offset + at * scale, from, to, pieceDone);
      at = stop;
    }
    pieceDone();
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

  async #gather(
    output: OpenOutput,
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
    done: () => void,
  ): Promise<void> {
    const open = this.#gathered;
    const follows = open?.output === output && open.offset + open.length === offset;
    if (!follows || open.length + bytes.byteLength > GATHERED) await this.#flush();
    this.#gathered ??= { output, offset, parts: [], done: [], length: 0 };
    this.#gathered.parts.push(bytes);
    this.#gathered.done.push(done);
    this.#gathered.length += bytes.byteLength;
  }

  async #flush(): Promise<void> {
    const gathered = this.#gathered;
    this.#gathered = undefined;
    if (!gathered) return;
    const { output, offset, parts, done } = gathered;
    const bytes = parts.length === 1 ? parts[0]! : concatenate(parts, gathered.length);
    await this.#start(output, bytes, offset, "U8", "U8", () => done.forEach((call) => call()));
  }

  async #start(
    output: OpenOutput,
    bytes: Uint8Array<ArrayBuffer>,
    offset: number,
    from: DType,
    to: DType,
    done: () => void,
  ): Promise<void> {
    while (this.#inFlight.size >= this.#limit) await Promise.race(this.#inFlight);
    if (this.#failure) throw this.#failure.error;
    const { byteLength } = bytes;
    const write = output.write(bytes, offset, from, to).then(
      () => this.#onWritten(byteLength),
      (error) => {
        this.#failure ??= { error };
      },
    ).finally(() => {
      this.#inFlight.delete(write);
      done();
    });
    this.#inFlight.add(write);
  }
}

function concatenate(parts: readonly Uint8Array[], length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}
