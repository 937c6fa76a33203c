/**
 * Records which tensors of a running load have landed, in which order, and which callers wait for them.
 */
import { TurnQueue } from "../base/turn.ts";
import { finishNow, type Steps } from "../base/steps.ts";
import type { LoadPlan } from "./plan.ts";
import { PER_STEP } from "./request.ts";

/** A caller that waits for a request. */
export interface Waiter {
  /** Called after the request has landed. */
  landed(): void;
  /** Called if the load fails before. */
  failed(error: unknown): void;
}

/** The record of one load. Methods take the index of a request in the plan. */
export class Readiness {
  readonly #plan: LoadPlan;
  /** For each request, the number of its segments that have not landed. */
  readonly #missing: Uint32Array;
  readonly #waiting = new Map<number, Waiter | Waiter[]>();
  /** The requests that have landed, in this order; {@linkcode landedCount} of them. */
  readonly #landed: Uint32Array<ArrayBuffer>;
  #landedCount = 0;
  readonly #settling = new TurnQueue();
  #change = Promise.withResolvers<void>();
  #failure: { readonly error: unknown } | undefined;
  /** The request that has the first byte that could not be read. */
  #failedRequest: number | undefined;

  private constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#missing = new Uint32Array(plan.requests.size);
    this.#landed = new Uint32Array(plan.requests.size);
  }

  /** Makes the record of a load that has not started. */
  static of(plan: LoadPlan): Readiness {
    return finishNow(Readiness.steps(plan));
  }

  /** {@linkcode Readiness.of} in steps. */
  static *steps(plan: LoadPlan): Steps<Readiness> {
    const readiness = new Readiness(plan);
    const missing = readiness.#missing;
    const { byteLengths } = plan.placements;
    let step = 0;
    for (const segment of plan.segments) {
      for (let request = segment.firstRequest; request < segment.stopRequest; request++) {
        if (++step % PER_STEP === 0) yield;
        // Requests without bytes can lie between the requests of a segment; they wait for no segment.
        if (byteLengths[request]! > 0) missing[request]!++;
      }
    }
    for (let request = 0; request < missing.length; request++) {
      if (request % PER_STEP === 0) yield;
      if (missing[request] === 0) readiness.#landed[readiness.#landedCount++] = request;
    }
    return readiness;
  }

  /** Requests that have landed, in order of landing. */
  get landed(): Uint32Array<ArrayBuffer> {
    return this.#landed.subarray(0, this.#landedCount);
  }

  /** The number of requests that have landed. */
  get landedCount(): number {
    return this.#landedCount;
  }

  /** Whether a request has landed. */
  isReady(request: number): boolean {
    return this.#missing[request] === 0;
  }

  /** Records that all bytes of a segment have landed. */
  segmentLanded(index: number): void {
    const segment = this.#plan.segments[index]!;
    const { byteLengths } = this.#plan.placements;
    const before = this.#landedCount;
    for (let request = segment.firstRequest; request < segment.stopRequest; request++) {
      if (byteLengths[request] === 0) continue;
      if (--this.#missing[request]! > 0) continue;
      this.#landed[this.#landedCount++] = request;
      const waiting = this.#waiting.size > 0 && this.#waiting.get(request);
      if (!waiting) continue;
      this.#waiting.delete(request);
      for (const waiter of listed(waiting)) this.#settling.add(() => waiter.landed());
    }
    if (this.#landedCount > before) this.#announce();
  }

  /**
   * Records a failure: promises of requests that have not landed reject with this error. Later failures are ignored.
   *
   * @param request the request whose bytes could not be read, if that is the error
   */
  fail(error: unknown, request?: number): void {
    if (this.#failure) return;
    this.#failure = { error };
    this.#failedRequest = request;
    for (const waiting of this.#waiting.values()) {
      for (const waiter of listed(waiting)) this.#settling.add(() => waiter.failed(error));
    }
    this.#waiting.clear();
    this.#announce();
  }

  /** Whether the load has failed because bytes of this request could not be read. */
  hasFailed(request: number): boolean {
    return request === this.#failedRequest;
  }

  /** Resolves after a request has landed. */
  whenReady(request: number): Promise<void> {
    return new Promise((resolve, reject) => this.wait(request, { landed: resolve, failed: reject }));
  }

  /** Calls the waiter after a request has landed, or the load has failed: now, if it has. */
  wait(request: number, waiter: Waiter): void {
    if (this.isReady(request)) return waiter.landed();
    if (this.#failure) return waiter.failed(this.#failure.error);
    const waiting = this.#waiting.get(request);
    if (!waiting) this.#waiting.set(request, waiter);
    else if (Array.isArray(waiting)) waiting.push(waiter);
    else this.#waiting.set(request, [waiting, waiter]);
  }

  /** Yields every request once, in order of landing. */
  async *inLandingOrder(): AsyncGenerator<number, void, void> {
    for (let index = 0; index < this.#plan.requests.size; index++) {
      while (index >= this.#landedCount) {
        if (this.#failure) throw this.#failure.error;
        await this.#change.promise;
      }
      yield this.#landed[index]!;
    }
  }

  #announce(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

function listed(waiting: Waiter | Waiter[]): Waiter[] {
  return Array.isArray(waiting) ? waiting : [waiting];
}
