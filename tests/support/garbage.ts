/**
 * Checks which objects the garbage collector can free.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

/** Collects garbage; returns the bytes of the heap that are in use then. */
export function collectedHeap(): number {
  gc();
  gc();
  return Deno.memoryUsage().heapUsed;
}

/** Watched objects, by a number: a WeakRef would retain them here. */
const gone = new Set<number>();
const registry = new FinalizationRegistry<number>((id) => gone.add(id));
let watched = 0;

/** Watches the collection of an object without retaining it. */
export class Watched {
  readonly #id = watched++;

  constructor(object: object) {
    registry.register(object, this.#id);
  }

  /** Collects garbage until the object is freed, or for so many rounds; returns whether it was freed. */
  async isCollected(rounds = 25): Promise<boolean> {
    for (let round = 0; round < rounds && !gone.has(this.#id); round++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return gone.has(this.#id);
  }
}
