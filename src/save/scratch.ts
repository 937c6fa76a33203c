/** A temporary file for tensors that must be written before their places in the files are known. */
import { AtomicSet, type SetOptions } from "./atomic_set.ts";
import { OutputStream } from "./output_stream.ts";
import { indexPathOf } from "./shards.ts";
import { checkLength, type Item, itemOf, type SavableTensor } from "./source.ts";
import { putElements } from "./write_tensors.ts";
import type { WriteEngine } from "./write_engine.ts";
import { WriteError } from "../base/errors.ts";
import { quote } from "../base/text.ts";

/** Bytes of one read. */
const BLOCK = 8 * 2 ** 20;

/** Tensors of fewer bytes stay in memory, because a read of a file for each of very many would take long. */
const SMALL = 64 * 2 ** 10;

/** The most bytes of small tensors in memory. */
const SMALL_BYTES = 64 * 2 ** 20;

/** Tensors in a file beside the target of a save. The file gets no final name, and is removed at the end. */
export class Scratch implements AsyncDisposable {
  readonly #engine: WriteEngine;
  readonly #set: AtomicSet;
  readonly #stream: OutputStream;
  #length = 0;
  /** Bytes of the tensors in memory. */
  #inMemory = 0;
  #file: Deno.FsFile | undefined;
  readonly #unused: Uint8Array<ArrayBuffer>[] = [];
  /** The memory of each buffer that a part has been read to. */
  readonly #memory = new Map<ArrayBuffer, Uint8Array<ArrayBuffer>>();

  private constructor(engine: WriteEngine, set: AtomicSet, signal: AbortSignal | undefined) {
    this.#engine = engine;
    this.#set = set;
    this.#stream = new OutputStream({
      writers: engine.writers,
      memory: (byteLength) => engine.memory(byteLength),
      onWritten: () => {},
      signal,
    });
  }

  /**
   * Creates the file, after the checks that the save itself makes: whether the target may be replaced, and whether its
   * folder can be written.
   *
   * @throws the errors of {@linkcode AtomicSet.create}
   */
  static async create(
    engine: WriteEngine,
    target: string,
    options: Omit<SetOptions, "direct">,
  ): Promise<Scratch> {
    const files = [{ path: target, size: 1 }]; // the system does not reserve 0 bytes; the file grows
    const set = await AtomicSet.create(engine, target, files, [indexPathOf(target)], {
      ...options,
      direct: false,
    });
    return new Scratch(engine, set, options.signal);
  }

  /**
   * Copies a tensor to the file, with the cast of its item; a small one to memory, without the cast. The memory of
   * `tensor` is not used after this.
   *
   * @returns the copy
   * @throws {WriteError} if the system refuses
   */
  async copy(item: Item, tensor: SavableTensor): Promise<SavableTensor> {
    if ("data" in tensor && item.sourceBytes < SMALL && this.#inMemory + item.sourceBytes <= SMALL_BYTES) {
      const { data } = tensor;
      checkLength(item, data);
      this.#inMemory += item.sourceBytes;
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      return { dtype: item.from, shape: item.shape, data: Uint8Array.from(bytes) };
    }
    const begin = this.#length;
    this.#length += item.fileBytes;
    await putElements(this.#stream, item, tensor, { output: this.#set.outputs[0]!, offset: begin });
    await this.#stream.settle();
    const { to: dtype, shape } = item;
    return {
      dtype,
      shape,
      parts: () => this.#read(itemOf({ name: item.name, dtype, shape }, undefined), begin),
      written: (part) => void this.#unused.push(this.#memory.get(part.buffer)!),
    };
  }

  /** Waits until all tensors are in the file. */
  finish(): Promise<void> {
    return this.#stream.finish();
  }

  async *#read({ fileBytes }: Item, begin: number): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    const { path, target } = this.#set.outputs[0]!;
    const file = this.#file ??= await Deno.open(path, { read: true });
    await file.seek(begin, Deno.SeekMode.Start);
    for (let left = fileBytes; left > 0;) {
      const memory = this.#unused.pop() ?? this.#engine.memory(BLOCK);
      this.#memory.set(memory.buffer, memory);
      const part = memory.subarray(0, Math.min(left, BLOCK));
      for (let filled = 0; filled < part.byteLength;) {
        const count = await file.read(part.subarray(filled));
        if (!count) {
          throw new WriteError(`Cannot save ${quote(target)}: its temporary file was cut`, { path });
        }
        filled += count;
      }
      left -= part.byteLength;
      yield part;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#file?.close();
    await this.#stream.settle();
    await this.#set.discard();
  }
}
