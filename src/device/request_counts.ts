/**
 * Finds the allocations of a load that are not needed again.
 */
import { finishNow, type Steps } from "../base/steps.ts";
import type { LoadPlan } from "../load/plan.ts";
import { PER_STEP } from "../load/request.ts";

/** Counts the requests of each allocation that are not retired. */
export class RequestCounts {
  readonly #plan: LoadPlan;
  readonly #retired: Uint8Array;
  readonly #left: number[];

  private constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#retired = new Uint8Array(plan.requests.size);
    this.#left = plan.allocations.map(() => 0);
  }

  /** The counts of a load without retired requests. */
  static of(plan: LoadPlan): RequestCounts {
    return finishNow(RequestCounts.steps(plan));
  }

  /** {@linkcode RequestCounts.of} in steps. */
  static *steps(plan: LoadPlan): Steps<RequestCounts> {
    const counts = new RequestCounts(plan);
    const { allocations } = plan.placements;
    for (let request = 0; request < allocations.length; request++) {
      if (request % PER_STEP === 0) yield;
      counts.#left[allocations[request]!]!++;
    }
    return counts;
  }

  /** Retires requests; returns the allocations that no other request needs. */
  retire(requests: readonly number[]): number[] {
    const free: number[] = [];
    for (const request of requests) {
      if (this.#retired[request]) continue;
      this.#retired[request] = 1;
      const allocation = this.#plan.placements.allocations[request]!;
      if (--this.#left[allocation]! === 0) free.push(allocation);
    }
    return free;
  }
}
