/**
 * Which allocations of a load nobody will ask for any more.
 */
import type { LoadPlan } from "../plan/plan.ts";

/** Counts the requests of each allocation that are not retired. */
export class Retirement {
  readonly #plan: LoadPlan;
  readonly #retired: Uint8Array;
  readonly #left: number[];

  constructor(plan: LoadPlan) {
    this.#plan = plan;
    this.#retired = new Uint8Array(plan.requests.length);
    this.#left = plan.allocations.map(() => 0);
    for (const { allocation } of plan.placements) this.#left[allocation]!++;
  }

  /** Retires requests; gives the allocations that no other needs. */
  retire(requests: readonly number[]): number[] {
    const free: number[] = [];
    for (const request of requests) {
      if (this.#retired[request]) continue;
      this.#retired[request] = 1;
      const { allocation } = this.#plan.placements[request]!;
      if (--this.#left[allocation]! === 0) free.push(allocation);
    }
    return free;
  }
}
