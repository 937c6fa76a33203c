/**
 * Selects the tensors of a model and makes the requests for them.
 */
import { type Catalog, type CatalogTensor, tensorNotFound } from "../files/catalog.ts";
import { closestWord } from "../base/closest_word.ts";
import type { Device } from "../load/device.ts";
import { unmatchedSteps } from "../base/names.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { type LoadRequest, type NamedRequests, ownTensor } from "../load/load.ts";
import type { CheckedOptions } from "./options.ts";
import type { Tensor } from "../load/tensor.ts";

/**
 * The requests for the tensors that the option `names` selects, by name, in file order. Each request is made at its first
 * use and then stays the same object: a lazy model of 100,000 tensors opens sooner.
 */
export class WantedTensors implements NamedRequests {
  readonly #tensors: ReadonlyMap<string, CatalogTensor>;
  readonly #requestFor: (tensor: CatalogTensor) => LoadRequest;
  readonly #requests = new Map<string, LoadRequest>();

  private constructor(
    tensors: ReadonlyMap<string, CatalogTensor>,
    requestFor: (tensor: CatalogTensor) => LoadRequest,
  ) {
    this.#tensors = tensors;
    this.#requestFor = requestFor;
  }

  /**
   * Chooses the tensors.
   *
   * @throws {SafeTensorsError} "TensorNotFound" if `names` lists a tensor that no file has; other codes if the shard
   *   plan does not match a tensor
   */
  static *steps(catalog: Catalog, device: Device<Tensor>, options: CheckedOptions): Steps<WantedTensors> {
    const tensors = yield* namedSteps(catalog, options.names);
    const wanted = new WantedTensors(tensors, (tensor) => ownTensor(tensor, options, device));
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
    let request = this.#requests.get(name);
    if (!request) this.#requests.set(name, request = this.#requestFor(this.#tensors.get(name)!));
    return request;
  }

  values(): IteratorObject<LoadRequest> {
    return this.#tensors.keys().map((name) => this.get(name));
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
  const named = new Map<string, CatalogTensor>();
  let step = 0;
  for (const [name, tensor] of tensors) {
    if (++step % STEP === 0) yield;
    if (names.has(name)) named.set(name, tensor);
  }
  return named;
}
