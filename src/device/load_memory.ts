/**
 * The memory that a load fills on a device where the garbage collector frees none.
 */
import { UseAfterCloseError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import type { LoadPlan } from "../load/plan.ts";
import type { Retirement } from "./retirement.ts";
import type { PlacedTensor, SharedMemory } from "./tensor_handle.ts";

/** A load's own hold on its memory: one for each of the plan's allocations. */
export class LoadMemory<M extends SharedMemory> {
  readonly #plan: LoadPlan;
  readonly #retirement: Retirement;
  readonly #memories: readonly M[];
  readonly #held: Set<M>;

  /** @param memories one for each of the plan's allocations; this takes over one hold on each */
  constructor(plan: LoadPlan, memories: readonly M[], retirement: Retirement) {
    this.#plan = plan;
    this.#memories = memories;
    this.#retirement = retirement;
    this.#held = new Set(memories);
  }

  /** The tensor of a request that has landed, with one more hold on its memory. */
  tensor(request: number): [memory: M, tensor: PlacedTensor] {
    const { name, target: dtype, shape } = this.#plan.requests[request]!;
    const { allocation, offset, byteLength } = this.#plan.placements[request]!;
    const memory = this.#memories[allocation]!;
    if (!this.#held.has(memory)) {
      throw new UseAfterCloseError(`Cannot get tensor ${quote(name)}: its load was closed`);
    }
    memory.hold();
    // A tensor without bytes may stand at the very end, where nothing can be bound.
    return [memory, { name, dtype, shape, byteLength, offset: byteLength === 0 ? 0 : offset }];
  }

  /** Notes that these requests will not be asked for again; drops the memory that only they need. */
  retire(requests: readonly number[]): void {
    for (const allocation of this.#retirement.retire(requests)) this.#drop(this.#memories[allocation]!);
  }

  /** Drops all of it; handles that were given out keep theirs. */
  release(): void {
    for (const memory of this.#memories) this.#drop(memory);
  }

  #drop(memory: M): void {
    if (this.#held.delete(memory)) memory.drop();
  }
}
