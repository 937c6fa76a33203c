/**
 * Writes bytes to files: a bounded number of writes in flight, each of whole pages of a file if possible.
 *
 * Tensors lie end to end in a file, at any offset. Large tensors are written from their own memory, cut at page
 * boundaries of the file; small tensors, and both ends of large ones, are first copied into a block with their
 * neighbours.
 */
import type { DType } from "../base/dtype.ts";
import { castLength } from "../load/request.ts";
import { type Item, wrongLength } from "./source.ts";
import type { OpenOutput } from "./write_engine.ts";

const PAGE = 4096;

/** Bytes of one write of a large tensor. */
const PIECE = 8 * 2 ** 20;

/** Smaller tensors are gathered, because a copy costs less than a separate write. */
const SMALL = 2 ** 20;

/** Bytes of one gathered block. */
const BLOCK = 4 * 2 ** 20;

/** The most incomplete blocks: tensors may come in another order than they have in the file. */
const OPEN_BLOCKS = 8;

/** A place in a file, and the cast of its bytes. */
export interface Place {
  /** The file. */
  readonly output: OpenOutput;
  /** The byte offset in the file. */
  readonly offset: number;
  /** Element type of the source bytes. */
  readonly from: DType;
  /** Element type in the file. */
  readonly to: DType;
  /** The tensor of the bytes, if they are a tensor's. */
  readonly item?: Item;
}

/** Neighbours in a file that are written together. */
interface Block {
  readonly place: Place;
  readonly memory: Uint8Array<ArrayBuffer>;
  /** The start in the memory: its distance to a page boundary is that of the place in the file. */
  readonly start: number;
  end: number;
}

/** Options of an output stream. */
export interface OutputStreamOptions {
  /** Writes in flight. */
  readonly writers: number;
  /** Allocates memory for fast writes. */
  readonly memory: (byteLength: number) => Uint8Array<ArrayBuffer>;
  /** Called with the number of bytes of every finished write, before a cast. */
  readonly onWritten: (byteLength: number) => void;
  /** Cancels the writes. */
  readonly signal?: AbortSignal | undefined;
}

/** Writes to several files at once. */
export class OutputStream {
  readonly #options: OutputStreamOptions;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #blocks: Block[] = [];
  readonly #unused: Uint8Array<ArrayBuffer>[] = [];
  #failure: { readonly error: unknown } | undefined;

  constructor(options: OutputStreamOptions) {
    this.#options = options;
  }

  /**
   * Accepts bytes for a place in a file; resolves when more can be accepted. The caller must not change the bytes
   * until they are written.
   *
   * @param done called when the bytes are not needed any more
   * @throws {SafeTensorsError} "InvalidTensorView" if their buffer is transferred meanwhile
   * @throws {WriteError} if a write failed, this one or an earlier one; or the signal's reason
   */
  async put(place: Place, bytes: Uint8Array<ArrayBuffer>, done: () => void = () => {}): Promise<void> {
    const { byteLength } = bytes;
    if (byteLength < SMALL || isResizable(bytes.buffer)) {
      await this.#gather(place, bytes);
      return done();
    }
    const head = sourceLength(place, -place.offset & (PAGE - 1));
    const tail = byteLength - sourceLength(place, after(place, byteLength).offset % PAGE);
    const edge = await this.#gather(place, bytes.subarray(0, head));
    if (edge) await this.#flush(edge); // no more bytes follow it
    let pieces = 1;
    const pieceDone = () => {
      if (--pieces === 0) done();
    };
    for (let at = head; at < tail; at += PIECE) {
      pieces++;
      await this.#start(after(place, at), bytes.subarray(at, Math.min(tail, at + PIECE)), pieceDone);
      checkThere(place, bytes, byteLength);
    }
    await this.#gather(after(place, tail), bytes.subarray(tail));
    pieceDone();
  }

  /**
   * Waits until all bytes are written.
   *
   * @throws {WriteError} if a write failed; or the signal's reason
   */
  async finish(): Promise<void> {
    for (const block of [...this.#blocks]) await this.#flush(block);
    await this.settle();
    this.#check();
  }

  /** Waits until no write is running. */
  async settle(): Promise<void> {
    await Promise.all(this.#inFlight);
  }

  /** Copies bytes into blocks beside their neighbours; returns the last block, unless it was full. */
  async #gather(place: Place, bytes: Uint8Array<ArrayBuffer>): Promise<Block | undefined> {
    const { byteLength } = bytes;
    let block = this.#blocks.find((open) => isNext(open, place));
    for (let at = 0; at < byteLength;) {
      block ??= await this.#open(after(place, at));
      checkThere(place, bytes, byteLength);
      const part = bytes.subarray(at, at + BLOCK - block.end);
      block.memory.set(part, block.end);
      block.end += part.byteLength;
      at += part.byteLength;
      if (block.end < BLOCK) break;
      await this.#flush(block);
      block = undefined;
    }
    return block;
  }

  async #open(place: Place): Promise<Block> {
    if (this.#blocks.length === OPEN_BLOCKS) await this.#flush(this.#blocks[0]!);
    const memory = this.#unused.pop() ?? this.#options.memory(BLOCK);
    const start = sourceLength(place, place.offset % PAGE);
    const block = { place, memory, start, end: start };
    this.#blocks.push(block);
    return block;
  }

  async #flush(block: Block): Promise<void> {
    const { place, memory, start, end } = block;
    this.#blocks.splice(this.#blocks.indexOf(block), 1);
    await this.#start(place, memory.subarray(start, end), () => this.#unused.push(memory));
  }

  async #start(place: Place, bytes: Uint8Array<ArrayBuffer>, done: () => void): Promise<void> {
    while (this.#inFlight.size >= this.#options.writers) await Promise.race(this.#inFlight);
    this.#check();
    const write = this.#write(place, bytes, done).catch((error) => {
      this.#failure ??= { error };
    }).finally(() => this.#inFlight.delete(write));
    this.#inFlight.add(write);
  }

  async #write(place: Place, bytes: Uint8Array<ArrayBuffer>, done: () => void): Promise<void> {
    const { byteLength } = bytes;
    try {
      await place.output.write(bytes, place.offset, place.from, place.to);
    } catch (error) {
      checkThere(place, bytes, byteLength);
      throw error;
    } finally {
      done();
    }
    this.#options.onWritten(byteLength);
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
    this.#options.signal?.throwIfAborted();
  }
}

/** Whether memory may change its size: such memory cannot be used by another thread. */
function isResizable(buffer: { readonly resizable?: boolean; readonly growable?: boolean }): boolean {
  return buffer.resizable || buffer.growable || false;
}

/** Throws if the caller has transferred the buffer of a tensor meanwhile. */
function checkThere({ item }: Place, bytes: Uint8Array, byteLength: number): void {
  if (bytes.byteLength === byteLength || !item) return;
  throw wrongLength(item, "its buffer was transferred while it was written");
}

/** The place after `byteLength` source bytes. */
function after(place: Place, byteLength: number): Place {
  return { ...place, offset: place.offset + castLength(byteLength, place.from, place.to) };
}

/** The number of source bytes for `fileLength` bytes in the file. */
function sourceLength({ from, to }: Place, fileLength: number): number {
  return castLength(fileLength, to, from);
}

/** Whether a place follows a block in the file and has the same cast. */
function isNext({ place, start, end }: Block, next: Place): boolean {
  const { output, offset, from, to } = after(place, end - start);
  if (output !== next.output || offset !== next.offset) return false;
  return from === to ? next.from === next.to : from === next.from && to === next.to;
}
