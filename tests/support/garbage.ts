/**
 * What the garbage collector can free.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

/** Objects that are watched, by a number: a WeakRef would keep them alive here. */
const gone = new Set<number>();
const registry = new FinalizationRegistry<number>((id) => gone.add(id));
let watched = 0;

/** An object whose end is watched, without keeping it alive. */
export class Watched {
  readonly #id = watched++;

  constructor(object: object) {
    registry.register(object, this.#id);
  }

  /** Collects garbage until the object is gone, or for so many rounds; whether it is gone. */
  async isCollected(rounds = 25): Promise<boolean> {
    for (let round = 0; round < rounds && !gone.has(this.#id); round++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return gone.has(this.#id);
  }
}
