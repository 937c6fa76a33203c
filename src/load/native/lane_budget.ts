/**
 * Limits the non-blocking calls that all loads and saves of this isolate have in flight together.
 *
 * Deno runs at most 32 such calls at once, and its own file functions use the same threads: with 32 calls of a load,
 * `Deno.stat` would wait for the end of the load. Requests are served in order, so that writers that need one call do
 * not delay a load that needs three.
 */
const LIMIT = 24;

/** A request that waits for calls. */
interface Waiter {
  readonly least: number;
  readonly wanted: number;
  readonly grant: (count: number) => void;
}

interface Budget {
  taken: number;
  readonly queue: Waiter[];
}

/** A symbol of the whole isolate, so that two copies or versions of this package share one budget. */
const KEY = Symbol.for("fastsafetensors.laneBudget.1");

const budget = (globalThis as { [KEY]?: Budget })[KEY] ??= { taken: 0, queue: [] };

/**
 * Waits until all earlier requests are served and at least `least` calls are free, then takes up to `wanted` of them. A
 * caller that has taken calls must not take more before it returns them: two such callers could block each other.
 *
 * @param signal aborts the wait: this then rejects with the signal's reason and has taken no calls
 * @returns the number of calls taken; return as many with {@linkcode returnCalls}
 */
export function takeCalls(least: number, wanted: number, signal?: AbortSignal): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  if (signal?.aborted) {
    reject(signal.reason);
    return promise;
  }
  const abort = () => {
    budget.queue.splice(budget.queue.indexOf(waiter), 1);
    reject(signal!.reason);
    serve(); // the next request can need fewer calls
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

/** Returns calls to the budget. */
export function returnCalls(count: number): void {
  budget.taken -= count;
  serve();
}

/** Grants calls in the order of the requests until too few are free. */
function serve(): void {
  const { queue } = budget;
  while (queue.length > 0 && LIMIT - budget.taken >= queue[0]!.least) {
    const { wanted, grant } = queue.shift()!;
    const count = Math.min(wanted, LIMIT - budget.taken);
    budget.taken += count;
    grant(count);
  }
}
