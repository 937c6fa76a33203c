/**
 * Which tensors of a running load have landed, who waits for them, and in which order they came.
 */
import { TurnQueue } from "../base/turn.ts";
import { finishNow, STEP, type Steps } from "../base/steps.ts";
import type { LoadPlan } from "./plan.ts";

/** Bookkeeping of one load. Requests are named by their index in the plan. */
export class Readiness {
  readonly #plan: LoadPlan;
  /** Segments that each request still waits for. */
  readonly #missing: Uint32Array;
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
  readonly #landed: number[] = [];
  readonly #settling = new TurnQueue();
  #change = Promise.withResolvers<void>();
  #failure: { readonly error: unknown } | undefined;
  /** The request of which the first byte that could not be read is. */
  #failedRequest: number | undefined;

  private constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#missing = new Uint32Array(plan.requests.length);
  }

  /** The bookkeeping of a load that has not begun. */
  static of(plan: LoadPlan): Readiness {
    return finishNow(Readiness.steps(plan));
  }

  /** {@linkcode Readiness.of} in steps. */
  static *steps(plan: LoadPlan): Steps<Readiness> {
    const readiness = new Readiness(plan);
    const missing = readiness.#missing;
    let step = 0;
    for (const segment of plan.segments) {
      for (let request = segment.firstRequest; request < segment.stopRequest; request++) {
        if (++step % STEP === 0) yield;
        // Requests without bytes may stand between those that a segment serves; they wait for nothing.
        if (plan.placements[request]!.byteLength > 0) missing[request]!++;
      }
    }
    for (let request = 0; request < missing.length; request++) {
      if (missing[request] === 0) readiness.#landed.push(request);
    }
    return readiness;
  }

  /** Requests that have landed, in the order in which they did. */
  get landed(): readonly number[] {
    return this.#landed;
  }

  /** Whether a request has landed. */
  isReady(request: number): boolean {
    return this.#missing[request] === 0;
  }

  /** Notes that every byte of a segment is where it belongs. */
  segmentLanded(index: number): void {
    const segment = this.#plan.segments[index]!;
    const before = this.#landed.length;
    for (let request = segment.firstRequest; request < segment.stopRequest; request++) {
      if (this.#plan.placements[request]!.byteLength === 0) continue;
      if (--this.#missing[request]! > 0) continue;
      this.#landed.push(request);
      const waiting = this.#waiting.get(request);
      if (!waiting) continue;
      this.#waiting.delete(request);
      this.#settling.add(waiting.resolve);
    }
    if (this.#landed.length > before) this.#announce();
  }

  /**
   * Ends the load: whoever waits, now or later, for what has not landed gets this error. The first one counts.
   *
   * @param request the one of which bytes could not be read, if that is the error
   */
  fail(error: unknown, request?: number): void {
    if (this.#failure) return;
    this.#failure = { error };
    this.#failedRequest = request;
    for (const waiting of this.#waiting.values()) this.#settling.add(() => waiting.reject(error));
    this.#waiting.clear();
    this.#announce();
  }

  /** Whether the load has failed for bytes of this request. */
  hasFailed(request: number): boolean {
    return request === this.#failedRequest;
  }

  /** Resolves once a request has landed. */
  async whenReady(request: number): Promise<void> {
    if (this.isReady(request)) return;
    if (this.#failure) throw this.#failure.error;
    let waiting = this.#waiting.get(request);
    if (!waiting) {
      waiting = Promise.withResolvers<void>();
      this.#waiting.set(request, waiting);
    }
    await waiting.promise;
  }

  /** Every request once, in the order in which they land. */
  async *inLandingOrder(): AsyncGenerator<number, void, void> {
    for (let index = 0; index < this.#plan.requests.length; index++) {
      while (index >= this.#landed.length) {
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
