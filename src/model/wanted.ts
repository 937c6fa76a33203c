/**
 * Selects the tensors of a model and makes the requests for them.
 */
import { type Catalog, type CatalogTensor, tensorNotFound } from "../files/catalog.ts";
import { closestWord } from "../base/closest_word.ts";
import type { Device } from "../load/device.ts";
import { unmatchedSteps } from "../base/names.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { DTYPE_CODES, DTYPES } from "../base/dtype.ts";
import { TensorTable } from "../files/tensor_table.ts";
import { type LoadRequest, type NamedRequests, ownTensor, targetOf } from "../load/load.ts";
import { PER_STEP, RequestTable } from "../load/request.ts";
import type { CheckedOptions } from "./options.ts";
import type { Tensor } from "../load/tensor.ts";

/**
 * The requests for the tensors that the option `names` selects, by name, in file order. A request is made when it is asked
 * for. It then stays the same object, unless a load has all of them as columns.
 */
export class WantedTensors implements NamedRequests {
  readonly #tensors: ReadonlyMap<string, CatalogTensor>;
  readonly #device: Device<Tensor>;
  readonly #options: CheckedOptions;
  readonly #requests = new Map<string, LoadRequest>();
  /** Whether a load has all requests as columns, which finds them by name. */
  #areColumns = false;

  private constructor(
    tensors: ReadonlyMap<string, CatalogTensor>,
    device: Device<Tensor>,
    options: CheckedOptions,
  ) {
    this.#tensors = tensors;
    this.#device = device;
    this.#options = options;
  }

  /**
   * Chooses the tensors.
   *
   * @throws {SafeTensorsError} "TensorNotFound" if `names` lists a tensor that no file has; other codes if the shard
   *   plan does not match a tensor
   */
  static *steps(catalog: Catalog, device: Device<Tensor>, options: CheckedOptions): Steps<WantedTensors> {
    const tensors = yield* namedSteps(catalog, options.names);
    const wanted = new WantedTensors(tensors, device, options);
    if (!options.shardPlan) return wanted;
    let step = 0;
    for (const _request of wanted.values()) { // a shard plan that does not match throws here, before any read
      if (++step % STEP === 0) yield;
    }
    return wanted;
  }

  /** Whether the option `names` selects a tensor. */
  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** The number of names. */
  get size(): number {
    return this.#tensors.size;
  }

  keys(): MapIterator<string> {
    return this.#tensors.keys();
  }

  /** The request for a tensor that is wanted. */
  get(name: string): LoadRequest {
    if (this.#areColumns) return this.#requestFor(this.#tensors.get(name)!);
    let request = this.#requests.get(name);
    if (!request) this.#requests.set(name, request = this.#requestFor(this.#tensors.get(name)!));
    return request;
  }

  values(): IteratorObject<LoadRequest> {
    return this.#tensors.keys().map((name) => this.get(name));
  }

  *tableSteps(): Steps<RequestTable | null> {
    const tensors = this.#tensors;
    if (!(tensors instanceof TensorTable) || this.#options.shardPlan) return null;
    const { size, names, shapes, dtypes, files, fileOffsets, byteLengths } = tensors;
    const codes = DTYPES.map((dtype) => DTYPE_CODES.get(targetOf(dtype, this.#options.dtype, this.#device))!);
    const targets = new Uint8Array(size);
    for (let row = 0; row < size; row++) {
      if (row % PER_STEP === 0) yield;
      targets[row] = codes[dtypes[row]!]!;
    }
    this.#areColumns = true;
    const columns = { files, fileOffsets, byteLengths, dtypes, targets };
    return new RequestTable(columns, {
      name: (row) => names.text(row),
      shape: (row) => shapes[row]!,
      at: (row) => this.#requestFor(tensors.at(row)),
      rowOf: ({ name }) => tensors.rowOf(name),
    });
  }

  #requestFor(tensor: CatalogTensor): LoadRequest {
    return ownTensor(tensor, this.#options, this.#device);
  }
}

function* namedSteps(
  catalog: Catalog,
  names: CheckedOptions["names"],
): Steps<ReadonlyMap<string, CatalogTensor>> {
  const { tensors } = catalog;
  if (!names) return tensors;
  const missing = yield* unmatchedSteps(names, tensors);
  if (missing) {
    const nearest = missing.isName ? closestWord(missing.text, tensors.keys()) : undefined;
    const hint = nearest === undefined ? "" : `: did you mean ${quote(nearest)}?`;
    const detail = missing.isName
      ? "the option names lists it, but no file has it"
      : "it is a pattern of the option names that no name matches";
    throw tensorNotFound(catalog, missing.text, detail + hint);
  }
  if (tensors instanceof TensorTable) return yield* tensors.selectSteps((name) => names.has(name));
  const named = new Map<string, CatalogTensor>();
  let step = 0;
  for (const [name, tensor] of tensors) {
    if (++step % STEP === 0) yield;
    if (names.has(name)) named.set(name, tensor);
  }
  return named;
}
