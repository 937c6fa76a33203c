/**
 * The interface between a model and the ranks that have opened its files together. src/ranks implements it; the function
 * that opens a model for several ranks passes it.
 */
import { STEP, type Steps } from "../base/steps.ts";
import type { LoadRequest, NamedRequests } from "../load/load.ts";
import type { Session } from "../load/session.ts";
import type { StreamBounds } from "../load/stream.ts";
import type { Tensor } from "../load/tensor.ts";

/** The tensors that this rank reads. */
export interface OwnTensors<T extends Tensor> {
  /** Returns a tensor after it has landed. */
  get(request: LoadRequest): Promise<T>;
  /**
   * Frees the memory of tensors that are not requested again. If this is missing, tensors can be requested any number of
   * times: each request reads them again.
   */
  retire?(requests: readonly LoadRequest[]): void;
}

/** The tensors of all ranks. Every rank makes the same calls in the same order. */
export interface SharedTensors<T extends Tensor> {
  /** Returns a whole tensor on every rank. `request` replaces the default request for it. */
  getTensor(name: string, request?: LoadRequest): Promise<T>;
  /** The same for a rank that takes a part of the tensor; the tensor can be requested again. */
  lendTensor(name: string, request: LoadRequest): Promise<T>;
  /** Returns this rank's part of a tensor. */
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
   * Yields every tensor as `[name, tensor]` on every rank, in the same order.
   *
   * @param bounds the limits of memory, if the tensors are not loaded yet
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
  for (const request of requests.values()) { // the iterator makes requests that do not exist yet
    if (++step % STEP === 0) yield;
    if (request.file >= 0) own.push(request);
  }
  return own;
}
