/**
 * Which tensors of a model are wanted, and what is asked of them.
 */
import { type Catalog, type CatalogTensor, tensorNotFound } from "../files/catalog.ts";
import { closestWord } from "../base/closest_word.ts";
import type { Device } from "../load/device.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { type LoadRequest, type NamedRequests, ownTensor } from "../load/load.ts";
import type { CheckedOptions } from "./options.ts";
import type { Tensor } from "../load/tensor.ts";

/**
 * The tensors that the option `names` leaves, by name, in file order. A request is made when it is first asked for, and
 * is the same object from then on: a lazy model of 100,000 tensors opens sooner.
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
   * @throws {SafeTensorsError} "TensorNotFound" if `names` lists a tensor that no file has; what a shard plan asks for
   *   and cannot be had
   */
  static *steps(catalog: Catalog, device: Device<Tensor>, options: CheckedOptions): Steps<WantedTensors> {
    const tensors = yield* namedSteps(catalog, options.names);
    const wanted = new WantedTensors(tensors, (tensor) => ownTensor(tensor, options, device));
    if (!options.shardPlan) return wanted;
    let step = 0;
    for (const _request of wanted.values()) { // a plan that does not fit is an error at once
      if (++step % STEP === 0) yield;
    }
    return wanted;
  }

  /** Whether a tensor is wanted. */
  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** The names. */
  keys(): MapIterator<string> {
    return this.#tensors.keys();
  }

  /** The request for a tensor that is wanted. */
  get(name: string): LoadRequest {
    let request = this.#requests.get(name);
    if (!request) this.#requests.set(name, request = this.#requestFor(this.#tensors.get(name)!));
    return request;
  }

  /** All requests. */
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
  const isWanted = typeof names === "function" ? names : (name: string) => names.has(name);
  for (const name of typeof names === "function" ? [] : names) {
    if (tensors.has(name)) continue;
    const nearest = closestWord(name, tensors.keys());
    const hint = nearest !== undefined
      ? `: did you mean ${quote(nearest)}?`
      : /[*?]/.test(name)
      ? ": names are whole names; for a pattern give a function"
      : "";
    throw tensorNotFound(catalog, name, `the option names asks for it, and no file has it${hint}`);
  }
  const named = new Map<string, CatalogTensor>();
  let step = 0;
  for (const [name, tensor] of tensors) {
    if (++step % STEP === 0) yield;
    if (isWanted(name)) named.set(name, tensor);
  }
  return named;
}
