/** Gives access by name to the tensors of files that the ranks of a group have opened together. */
import { allOrDispose } from "../base/handled.ts";
import { type FileHome, pathOf } from "../files/catalog.ts";
import { UseAfterCloseError } from "../base/errors.ts";
import { finishNow } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import type { LoadRequest, NamedRequests } from "../load/load.ts";
import type { Session } from "../load/session.ts";
import type { StreamBounds } from "../load/stream.ts";
import { ownSteps, type OwnTensors, type SharedTensors, type ShareTensors } from "../model/shared_tensors.ts";
import type { Tensor } from "../load/tensor.ts";
import { cutOperations, Exchange, type SharedRequest, type Supply, type WantedTensor } from "./exchange.ts";
import { RankIteration } from "./rank_iteration.ts";

/** Shares the tensors of files that several ranks have opened. */
export const shareTensors: ShareTensors = (session, requests, own) => new RankTensors(session, requests, own);

/**
 * Sends tensors to all ranks. Each tensor of a loaded file can be requested once: after all of them were, its
 * owner's memory is released, and a further request is an error.
 */
class RankTensors<T extends Tensor> implements SharedTensors<T> {
  readonly #session: Session<T>;
  readonly #requests: NamedRequests;
  readonly #exchange: Exchange<T>;
  /** The source of the tensors. */
  readonly #supply: Supply<T>;
  /** Whether the tensors are loaded already, so that each can be requested once. */
  readonly #areLoaded: boolean;
  /** File → the names of its tensors that were not requested yet. */
  readonly #left = new Map<FileHome, Set<string>>();

  /** @param requests every available tensor, of any rank */
  constructor(session: Session<T>, requests: NamedRequests, own: OwnTensors<T>) {
    this.#session = session;
    this.#requests = requests;
    this.#exchange = Exchange.of(session);
    this.#supply = own.retire
      ? this.#onceOnly(own, own.retire.bind(own))
      : { own: (request) => own.get(request) };
    this.#areLoaded = own.retire !== undefined;
    if (!this.#areLoaded) return;
    for (const name of requests.keys()) {
      const { home } = session.find(name);
      const left = this.#left.get(home!);
      if (left) left.add(name);
      else this.#left.set(home!, new Set([name]));
    }
  }

  async getTensor(name: string, request = this.#requests.get(name)!): Promise<T> {
    const wanted = { ...this.#want(name, null), request };
    const [tensor] = await this.#exchange.take(`getTensor("${name}")`, [wanted], this.#supply);
    return tensor!;
  }

  async lendTensor(name: string, request: LoadRequest): Promise<T> {
    const supply = { ...this.#supply, onReceived() {} };
    const wanted = { ...this.#want(name, null), request };
    const [tensor] = await this.#exchange.take(`getSlice("${name}")`, [wanted], supply);
    return tensor!;
  }

  async getSharded(name: string, dimension: number): Promise<T> {
    const label = `getSharded("${name}", ${dimension})`;
    const [tensor] = await this.#exchange.take(label, [this.#want(name, dimension)], this.#supply);
    return tensor!;
  }

  iterate(bounds: StreamBounds): AsyncGenerator<[string, T], void, void> {
    const iteration = new RankIteration(this.#session, this.#requests);
    return iteration.run(this.#areLoaded ? iteration.inOneBatch(this.#supply) : iteration.stream(bounds));
  }

  getAll(label: string, names: readonly string[], dimension: number): Promise<T[]> {
    const wanted = names.map((name) => this.#want(name, dimension));
    return this.#exchange.take(label, wanted, this.#supply);
  }

  async getMany(label: string, wanted: readonly (readonly [string, number | null])[]): Promise<T[]> {
    const operations = cutOperations(wanted.map((one) => this.#want(...one)));
    const tensors = await allOrDispose(operations.map(async (operation) => {
      const taken = await this.#exchange.take(label, operation, this.#supply);
      return { taken, [Symbol.dispose]: () => taken.forEach((tensor) => tensor[Symbol.dispose]()) };
    }));
    return tensors.flatMap(({ taken }) => taken);
  }

  pushTensor(name: string, destination: number): Promise<T | null> {
    const label = `pushTensor("${name}", ${destination})`;
    return this.#exchange.push(label, this.#want(name, null), destination, this.#supply);
  }

  #want(name: string, dimension: number | null): WantedTensor {
    return { request: this.#requests.get(name)!, owner: this.#session.find(name).home!.rank, dimension };
  }

  #onceOnly(own: OwnTensors<T>, retire: (requests: readonly LoadRequest[]) => void): Supply<T> {
    const home = ({ request }: SharedRequest) => this.#session.find(request.name).home!;
    return {
      own: (request) => own.get(request),
      check: (wanted) => {
        for (const one of wanted) {
          if (this.#left.get(home(one))!.size === 0) throw this.#released(one.request.name);
        }
      },
      onReceived: (wanted) => {
        for (const one of wanted) {
          const left = this.#left.get(home(one))!;
          if (!left.delete(one.request.name) || left.size > 0) continue;
          retire(
            finishNow(ownSteps(this.#requests)).filter(({ name }) =>
              this.#session.find(name).home === home(one)
            ),
          );
        }
      },
    };
  }

  #released(name: string): UseAfterCloseError {
    const path = pathOf(this.#session.catalog, this.#session.find(name));
    return new UseAfterCloseError(
      `Cannot get tensor ${quote(name)}: all tensors of ${
        quote(path)
      } were already returned, and the memory was ` +
        `released: keep the tensor, or open the files again`,
    );
  }
}
