/**
 * The memory of a load on a device whose memory the garbage collector does not free.
 */
import { UseAfterCloseError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import type { LoadPlan } from "../load/plan.ts";
import type { RequestCounts } from "./request_counts.ts";
import type { PlacedTensor, SharedMemory } from "./tensor_handle.ts";

/** The references of a load to its memory: one for each allocation of the plan. */
export class LoadMemory<M extends SharedMemory> {
  readonly #plan: LoadPlan;
  readonly #counts: RequestCounts;
  readonly #memories: readonly M[];
  readonly #held: Set<M>;

  /** @param memories one for each allocation of the plan; this takes one reference to each */
  constructor(plan: LoadPlan, memories: readonly M[], counts: RequestCounts) {
    this.#plan = plan;
    this.#memories = memories;
    this.#counts = counts;
    this.#held = new Set(memories);
  }

  /** Makes the tensor of a request that has landed, by this name, with one more reference to its memory. */
  tensor(request: number, name: string): [memory: M, tensor: PlacedTensor] {
    const { requests, placements: { allocations, offsets, byteLengths } } = this.#plan;
    const byteLength = byteLengths[request]!;
    const memory = this.#memories[allocations[request]!]!;
    if (!this.#held.has(memory)) {
      throw new UseAfterCloseError(`Cannot get tensor ${quote(name)}: its load was closed`);
    }
    memory.hold();
    // A tensor without bytes can have the offset of the end, which cannot be bound.
    const offset = byteLength === 0 ? 0 : offsets[request]!;
    return [memory, {
      name,
      dtype: requests.target(request),
      shape: requests.shape(request),
      byteLength,
      offset,
    }];
  }

  /** Marks requests as not needed again; releases the memory that only they use. */
  retire(requests: readonly number[]): void {
    for (const allocation of this.#counts.retire(requests)) this.#drop(this.#memories[allocation]!);
  }

  /** Releases all memory; handles that were returned stay valid. */
  release(): void {
    for (const memory of this.#memories) this.#drop(memory);
  }

  #drop(memory: M): void {
    if (this.#held.delete(memory)) memory.drop();
  }
}
