/**
 * Iterates once over the tensors of many files, with a limit on memory.
 */
import { checkInteger, checkKeys, keysOf } from "../base/check.ts";
import type { DeviceOption } from "../base/device_name.ts";
import type { FloatDType } from "../base/dtype.ts";
import type { LoadedTensor } from "../device/tensors.ts";
import type { Device } from "../load/device.ts";
import type { Tensor } from "../load/tensor.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import { handledGenerator } from "../base/handled.ts";
import type { Files } from "../files/inputs.ts";
import { finishInTurns } from "../base/turn.ts";
import { selectSourceAndDevice } from "../deno/select_source_and_device.ts";
import { openFiles } from "../deno/open_files.ts";
import { type CheckedOpenOptions, checkOptions, OPEN_KEYS, type OpenOptions } from "../deno/options.ts";
import { checkGroup } from "../model/options.ts";
import { ownSteps } from "../model/shared_tensors.ts";
import { WantedTensors } from "../model/wanted.ts";
import { RankIteration } from "../ranks/rank_iteration.ts";
import { Session } from "../load/session.ts";
import { streamBatches, type StreamBounds } from "../load/stream.ts";

/**
 * Options of {@linkcode ParallelLoader}: those of a load, without the options that an iteration does not have.
 */
export interface ParallelLoaderOptions<
  D extends DeviceOption = DeviceOption,
  T extends FloatDType = FloatDType,
> extends Omit<OpenOptions<D, T>, "lazy" | "group"> {
  /**
   * The most tensor bytes (after a cast) that the loader has in memory, for all batches together; with several ranks,
   * on each. A larger tensor is a batch of its own. Tensors that you keep are extra: in host
   * memory a tensor keeps itself alive and at most 16 MiB of its neighbours, one below 64 KiB at most 1 MiB, and a
   * {@linkcode HostTensor.copy} nothing else. On a GPU, the memory of a batch is freed after all of its handles
   * are disposed. Default 1 GiB.
   */
  maxBytesInFlight?: number;
  /**
   * The number of batches read ahead. -1: none, a batch is read after the previous one was yielded. 0: one batch
   * is read while another is yielded. `n` from 1 on: `n` more are read ahead. The batches share
   * `maxBytesInFlight`. Default 0.
   */
  queueSize?: number;
}

const MODEL_KEYS = keysOf<Omit<OpenOptions, keyof ParallelLoaderOptions>>({
  lazy: true,
  group: true,
});

const KEYS = [
  ...OPEN_KEYS.filter((key) => !MODEL_KEYS.includes(key)),
  ...keysOf<StreamOptions>({ maxBytesInFlight: true, queueSize: true }),
];

type StreamOptions = Pick<ParallelLoaderOptions, Exclude<keyof ParallelLoaderOptions, keyof OpenOptions>>;

/**
 * Reads files in batches and yields their tensors once, reading the next batch while the last one is used. For
 * models that are larger than memory, or that are passed on tensor by tensor.
 *
 * Several ranks each read their own files, one of each rank in a batch, and every tensor is sent to all ranks.
 *
 * @example Use
 * ```ts
 * import { serialize } from "@x/fastsafetensors";
 * import { ParallelLoader } from "@x/fastsafetensors/compat";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } }));
 *
 * const seen: string[] = [];
 * for await (const [name] of new ParallelLoader(null, [path])) seen.push(name);
 * assertEquals(seen, ["x"]);
 * ```
 */
export class ParallelLoader<D extends DeviceOption = "cpu", T extends FloatDType = FloatDType> {
  readonly #group: ProcessGroup | undefined;
  readonly #files: Files;
  readonly #options: ParallelLoaderOptions<D, T>;
  readonly #bounds: StreamBounds;

  /**
   * Checks the options; no file is opened yet.
   *
   * @param group the ranks that load together; null is this process alone
   * @param files the files to read, as for {@linkcode fastsafeOpen}
   */
  constructor(group: ProcessGroup | null, files: Files, options: ParallelLoaderOptions<D, T> = {}) {
    this.#group = checkGroup("group", group ?? undefined);
    this.#files = files;
    this.#options = options;
    checkKeys("ParallelLoader", options, KEYS);
    this.#bounds = {
      bytesInFlight: checkInteger("maxBytesInFlight", options.maxBytesInFlight, {
        byDefault: 2 ** 30,
        least: 1,
      }),
      queueSize: checkInteger("queueSize", options.queueSize, { byDefault: 0, least: -1 }),
    };
    this.#checked();
  }

  /**
   * Yields every tensor once, as `[name, tensor]`. Each iteration opens the files again and closes them at its end,
   * also when it ends early. A relative path starts at the working folder of the iteration's first step.
   *
   * Several ranks iterate together and get the tensors in the same order. If one fails or ends its iteration
   * early, the others get a {@linkcode GroupError} that names it, unless they already have every tensor.
   *
   * @throws {SafeTensorsError} if a header is bad, or a name occurs twice
   * @throws {ReadError} if a file is shorter than its header says, or cannot be read
   * @throws {GroupError} on all of several ranks if that happens on one, or they open different files
   */
  iterateWeights(): AsyncGenerator<[string, LoadedTensor<D, T>], void, void> {
    return handledGenerator(this.#iterate());
  }

  /** {@linkcode iterateWeights}, for `for await (const [name, tensor] of loader)`. */
  [Symbol.asyncIterator](): AsyncGenerator<[string, LoadedTensor<D, T>], void, void> {
    return this.iterateWeights();
  }

  async *#iterate(): AsyncGenerator<[string, LoadedTensor<D, T>], void, void> {
    const options = this.#checked();
    const { catalog, selected } = await openFiles(this.#files, options, selectSourceAndDevice<D>);
    const { device, notes } = selected;
    // The option dtype casts to T.
    const session = new Session(
      catalog,
      device as Device<Tensor> as Device<LoadedTensor<D, T>>,
      options,
      notes,
    );
    try {
      const wanted = await finishInTurns(WantedTensors.steps(catalog, device, options));
      if (catalog.group) {
        const iteration = new RankIteration(session, wanted);
        yield* iteration.run(iteration.stream(this.#bounds));
      } else {
        yield* streamBatches(session, await finishInTurns(ownSteps(wanted)), this.#bounds);
      }
    } finally {
      await session.close();
    }
  }

  #checked(): CheckedOpenOptions {
    return checkOptions({ ...this.#options, ...this.#group && { group: this.#group } });
  }
}
