/**
 * What a model needs of the ranks that have opened its files together. src/ranks implements it, and whoever opens a
 * model for several ranks hands it in.
 */
import { STEP, type Steps } from "../base/steps.ts";
import type { LoadRequest, NamedRequests } from "../load/load.ts";
import type { Session } from "../load/session.ts";
import type { StreamBounds } from "../load/stream.ts";
import type { Tensor } from "../load/tensor.ts";

/** Where this rank's own tensors come from. */
export interface OwnTensors<T extends Tensor> {
  /** A tensor, once it has landed. */
  get(request: LoadRequest): Promise<T>;
  /**
   * Frees the memory of tensors that will not be asked for again. Without it they can be asked for any number of times:
   * they are read anew.
   */
  retire?(requests: readonly LoadRequest[]): void;
}

/** The tensors of all ranks. Every rank makes the same calls in the same order. */
export interface SharedTensors<T extends Tensor> {
  /** A whole tensor, on every rank. `request` replaces the one that it would be read by. */
  getTensor(name: string, request?: LoadRequest): Promise<T>;
  /** The same for a rank that takes a part of it; the tensor can be asked for again. */
  lendTensor(name: string, request: LoadRequest): Promise<T>;
  /** Each rank's own part of a tensor. */
  getSharded(name: string, dimension: number): Promise<T>;
  /** A tensor on the rank `destination`; null on the others. */
  pushTensor(name: string, destination: number): Promise<T | null>;
  /** Each rank's own parts of several tensors. `label` names the call in messages, the same on every rank. */
  getAll(label: string, names: readonly string[], dimension: number): Promise<T[]>;
  /** Several tensors, each whole or, with a dimension, this rank's part. */
  getMany(
    label: string,
    wanted: readonly (readonly [name: string, dimension: number | null])[],
  ): Promise<T[]>;
  /**
   * Every tensor as `[name, tensor]` on every rank, in the same order.
   *
   * @param bounds how much is read at once, where the tensors are not loaded already
   */
  iterate(bounds: StreamBounds): AsyncGenerator<[string, T], void, void>;
}

/** Shares the tensors of a session that several ranks have opened together. */
export type ShareTensors = <T extends Tensor>(
  session: Session<T>,
  requests: NamedRequests,
  own: OwnTensors<T>,
) => SharedTensors<T>;

/** The requests that this rank reads itself. */
export function* ownSteps(requests: NamedRequests): Steps<LoadRequest[]> {
  const own: LoadRequest[] = [];
  let step = 0;
  for (const request of requests.values()) { // a request may be made by asking for it
    if (++step % STEP === 0) yield;
    if (request.file >= 0) own.push(request);
  }
  return own;
}
