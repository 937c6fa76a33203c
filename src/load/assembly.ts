/**
 * Tensors whose elements have another order in the file (transposed or strided views, or another byte order) or are
 * quantized there. Each is assembled in host memory, one after another, and then copied to its device.
 */
import type { Device } from "./device.ts";
import { UseAfterCloseError } from "../base/errors.ts";
import { inSteps, STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { hostOperations } from "./host_operations.ts";
import { castLength, type TensorRequest } from "./request.ts";
import type { Assemble } from "../files/catalog.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** A request for a tensor to assemble; its `run` is the length of the result before a cast. */
export interface AssembledRequest extends TensorRequest {
  /** The function that assembles it. */
  readonly assemble: Assemble;
  /** Bytes that it reads from the file, if they are not those of the result before a cast. */
  readonly storedBytes?: number;
}

/** Assembles tensors. */
export class Assembly<T extends Tensor> {
  /** Settles after all tensors are done; rejects with the first failure. */
  finished: Promise<void> = Promise.resolve();
  readonly #requests: readonly AssembledRequest[];
  readonly #tensors = new Map<TensorRequest, PromiseWithResolvers<Tensor>>();

  private constructor(requests: readonly AssembledRequest[]) {
    this.#requests = requests;
  }

  /** Prepares to put these together. */
  static *steps<T extends Tensor>(requests: readonly AssembledRequest[]): Steps<Assembly<T>> {
    const assembly = new Assembly<T>(requests);
    yield* inSteps(requests, (request) => {
      const tensor = Promise.withResolvers<Tensor>();
      tensor.promise.catch(() => {}); // get() reports it
      assembly.#tensors.set(request, tensor);
    });
    return assembly;
  }

  /**
   * Starts to assemble the tensors.
   *
   * @param onDone called for each request after its tensor is ready
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

  /** Returns the tensor of a request after it is ready; each call returns a new handle. */
  async get(request: TensorRequest): Promise<T> {
    const tensor = await this.#tensors.get(request)?.promise;
    if (tensor && this.#tensors.has(request)) return tensor.named(request.name) as T;
    throw new UseAfterCloseError(`Cannot get tensor ${quote(request.name)}: its memory was released`);
  }

  /** Releases these tensors, which are not requested again. */
  retire(requests: readonly TensorRequest[]): void {
    for (const request of requests) {
      this.#tensors.get(request)?.promise.then((tensor) => tensor[Symbol.dispose](), () => {});
      this.#tensors.delete(request);
    }
  }

  /** Releases the tensors; handles that `get` has returned stay valid. */
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
    const turn = new Turn();
    for (const [index, request] of this.#requests.entries()) {
      if (index % STEP === 0) await turn.pause(); // a load that was ended rejects them all without a wait
      try {
        signal.throwIfAborted();
        const { name, shape, target } = request;
        const bytes = await assembleAndCast(request, files[request.file]!, signal);
        const tensor = await device.fromHost({ name, dtype: target, shape, bytes });
        this.#tensors.get(request)!.resolve(tensor);
        onDone(request);
      } catch (error) { // the others continue, unless the load ends
        this.#tensors.get(request)!.reject(error);
        failure ??= { error };
      }
    }
    if (failure) throw failure.error;
  }
}

/** Assembles the elements of a tensor in host memory and casts them to the dtype of the request. */
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
