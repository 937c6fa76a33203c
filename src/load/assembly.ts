/**
 * Tensors that do not lie in their file as they are wanted: transposed or strided views, bytes in another order. They
 * are put together in host memory, one after another, and then brought to their device.
 */
import type { Device } from "./device.ts";
import { UseAfterCloseError } from "../base/errors.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { hostOperations } from "./host_operations.ts";
import { castLength, type TensorRequest } from "./request.ts";
import type { Assemble } from "../files/catalog.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** A request for a tensor that has to be put together; its `run` is the length of the result before a cast. */
export interface AssembledRequest extends TensorRequest {
  /** How. */
  readonly assemble: Assemble;
}

/** Puts tensors together. */
export class Assembly<T extends Tensor> {
  /** Settles when all are done; rejects with the first failure. */
  finished: Promise<void> = Promise.resolve();
  readonly #requests: readonly AssembledRequest[];
  readonly #tensors = new Map<TensorRequest, PromiseWithResolvers<T>>();

  private constructor(requests: readonly AssembledRequest[]) {
    this.#requests = requests;
  }

  /** Prepares to put these together. */
  static *steps<T extends Tensor>(requests: readonly AssembledRequest[]): Steps<Assembly<T>> {
    const assembly = new Assembly<T>(requests);
    for (const [index, request] of requests.entries()) {
      if (index % STEP === 0) yield;
      const tensor = Promise.withResolvers<T>();
      tensor.promise.catch(() => {}); // told to whoever asks
      assembly.#tensors.set(request, tensor);
    }
    return assembly;
  }

  /**
   * Starts.
   *
   * @param onDone called for each request once its tensor is there
   */
  start(
    files: readonly SourceFile[],
    device: Device<T>,
    signal: AbortSignal,
    onDone: (request: AssembledRequest) => void,
  ): void {
    this.finished = this.#run(files, device, signal, onDone);
    this.finished.catch(() => {});
  }

  /** The tensor of a request, once it is there. Each call gives a handle of its own. */
  async get(request: TensorRequest): Promise<T> {
    const tensor = await this.#tensors.get(request)?.promise;
    if (tensor && this.#tensors.has(request)) return tensor.named(request.name) as T;
    throw new UseAfterCloseError(`Cannot get tensor ${quote(request.name)}: its memory was released`);
  }

  /** Drops the hold on these tensors, which nobody will ask for again. */
  retire(requests: readonly TensorRequest[]): void {
    for (const request of requests) {
      this.#tensors.get(request)?.promise.then((tensor) => tensor[Symbol.dispose]?.(), () => {});
      this.#tensors.delete(request);
    }
  }

  /** Drops this hold on the tensors; handles that were given out keep theirs. */
  async release(): Promise<void> {
    const turn = new Turn();
    let count = 0;
    for (const request of this.#tensors.keys()) {
      if (++count % STEP === 0) await turn.pause();
      this.retire([request]);
    }
  }

  async #run(
    files: readonly SourceFile[],
    device: Device<T>,
    signal: AbortSignal,
    onDone: (request: AssembledRequest) => void,
  ): Promise<void> {
    let failure: { readonly error: unknown } | undefined;
    for (const request of this.#requests) {
      try {
        signal.throwIfAborted();
        const { name, shape, target } = request;
        const bytes = await assembleAndCast(request, files[request.file]!, signal);
        const tensor = await device.fromHost({ name, dtype: target, shape, bytes });
        this.#tensors.get(request)!.resolve(tensor);
        onDone(request);
      } catch (error) { // the others are still put together, unless the load is ended
        this.#tensors.get(request)!.reject(error);
        failure ??= { error };
      }
    }
    if (failure) throw failure.error;
  }
}

/** The elements of a tensor in host memory, as its request wants them. */
async function assembleAndCast(
  { assemble, run, dtype, target }: AssembledRequest,
  file: SourceFile,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const stored = new Uint8Array(run);
  await assemble(file, stored, signal);
  if (dtype === target) return stored;
  const operations = hostOperations();
  const bytes = operations.allocate(castLength(run, dtype, target));
  await operations.cast(stored, dtype, bytes, target);
  return bytes;
}
