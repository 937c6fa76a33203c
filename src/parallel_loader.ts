/**
 * Going through the tensors of many files once, with a bound on memory.
 */
import { openCatalog } from "./catalog.ts";
import { type DeviceOption, selectDevice, type TensorOn } from "./device/select.ts";
import { type ProcessGroup, SingleGroup } from "./group/process_group.ts";
import { type Files, resolveInputs } from "./inputs.ts";
import { selectEngine } from "./lanes/select.ts";
import { wholeTensor } from "./load.ts";
import { checkOptions, type OpenOptions } from "./options.ts";
import { Session } from "./session.ts";
import { streamBatches } from "./stream.ts";

/** Options of {@linkcode ParallelLoader}. */
export interface ParallelLoaderOptions<D extends DeviceOption = "cpu">
  extends Omit<OpenOptions<D>, "lazy" | "names" | "group"> {
  /** File bytes in memory at once: the batch that is given out and the one being read meanwhile. Default 1 GiB. */
  maxBytesInFlight?: number;
}

/**
 * Reads files in batches and gives out their tensors once, reading the next batch while the last one is used. For
 * models that are larger than memory, or that go on elsewhere tensor by tensor.
 *
 * @example Use
 * ```ts
 * import { ParallelLoader, serialize } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } }));
 *
 * const seen: string[] = [];
 * for await (const [name] of new ParallelLoader(null, [path]).iterateWeights()) seen.push(name);
 * assertEquals(seen, ["x"]);
 * ```
 */
export class ParallelLoader<D extends DeviceOption = "cpu"> {
  readonly #group: ProcessGroup;
  readonly #files: Files;
  readonly #options: ParallelLoaderOptions<D>;
  readonly #bytesInFlight: number;

  /**
   * @param group the ranks that load together; null is this process alone
   * @param files what to read, as for {@linkcode fastsafeOpen}
   */
  constructor(group: ProcessGroup | null, files: Files, options: ParallelLoaderOptions<D> = {}) {
    this.#group = group ?? new SingleGroup();
    this.#files = files;
    this.#options = options;
    this.#bytesInFlight = options.maxBytesInFlight ?? 2 ** 30;
    if (!Number.isSafeInteger(this.#bytesInFlight) || this.#bytesInFlight < 1) {
      throw new RangeError(`maxBytesInFlight must be a positive whole number, got ${this.#bytesInFlight}`);
    }
    checkOptions(options, this.#group);
  }

  /**
   * Every tensor once, as `[name, tensor]`. Each iteration opens the files anew and closes them at its end, also
   * when it ends early.
   *
   * @throws {SafeTensorsError} if a header is bad, or a name occurs twice
   * @throws {ReadError} if a file cannot be read as far as its header promised
   */
  async *iterateWeights(): AsyncGenerator<[string, TensorOn<D>], void, void> {
    const options = checkOptions(this.#options, this.#group);
    const engine = await selectEngine();
    const device = await selectDevice(options.device as D, engine, options);
    const inputs = await resolveInputs(this.#files, this.#group);
    const catalog = await openCatalog(engine.source, inputs, options.signal);
    const session = new Session(catalog, device, options, engine.notes);
    try {
      const requests = catalog.tensors.values().map((tensor) => wholeTensor(tensor, options.dtype, device))
        .toArray();
      yield* streamBatches(session, requests, this.#bytesInFlight);
    } finally {
      await session.close();
    }
  }
}
