/**
 * How many non-blocking calls the loads and saves of this isolate may have in flight together.
 *
 * Deno runs at most 32 at once, shared with its own file functions; a load that took them all would make a
 * `Deno.stat` wait until it is through. Who asks first gets first: a load that needs three calls is not overtaken by
 * writers that need one.
 */
const LIMIT = 24;

/** Somebody who waits for calls. */
interface Waiter {
  readonly least: number;
  readonly wanted: number;
  readonly grant: (count: number) => void;
}

interface Budget {
  taken: number;
  readonly queue: Waiter[];
}

/** Under a symbol of the whole isolate: two copies of this package, or two versions, share one budget. */
const KEY = Symbol.for("fastsafetensors.laneBudget.1");

const budget = (globalThis as { [KEY]?: Budget })[KEY] ??= { taken: 0, queue: [] };

/**
 * Waits until everybody who asked before is served and at least `least` calls are free, then takes up to `wanted` of
 * them. Nobody may ask for more while holding some.
 *
 * @param signal ends the wait: then this rejects with its reason, and nothing was taken
 * @returns how many were taken; give as many back with {@linkcode giveBack}
 */
export function take(least: number, wanted: number, signal?: AbortSignal): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  if (signal?.aborted) {
    reject(signal.reason);
    return promise;
  }
  const abort = () => {
    budget.queue.splice(budget.queue.indexOf(waiter), 1);
    reject(signal!.reason);
    serve(); // those behind may need less
  };
  const waiter: Waiter = {
    least,
    wanted,
    grant: (count) => {
      signal?.removeEventListener("abort", abort);
      resolve(count);
    },
  };
  signal?.addEventListener("abort", abort, { once: true });
  budget.queue.push(waiter);
  serve();
  return promise;
}

/** Gives calls back. */
export function giveBack(count: number): void {
  budget.taken -= count;
  serve();
}

/** Grants calls in the order of asking, as far as they go. */
function serve(): void {
  const { queue } = budget;
  while (queue.length > 0 && LIMIT - budget.taken >= queue[0]!.least) {
    const { wanted, grant } = queue.shift()!;
    const count = Math.min(wanted, LIMIT - budget.taken);
    budget.taken += count;
    grant(count);
  }
}
