/**
 * How many non-blocking calls the loads of this isolate may have in flight together.
 *
 * Deno runs at most 32 at once, shared with its own file functions; a load that took them all would make a
 * `Deno.stat` wait until it is through.
 */
const LIMIT = 24;

let taken = 0;
const queue: (() => void)[] = [];

/**
 * Waits until at least `least` calls are free, then takes up to `wanted` of them.
 *
 * @param signal ends the wait: then this rejects with its reason, and nothing was taken
 * @returns how many were taken; give as many back with {@linkcode giveBack}
 */
export async function take(least: number, wanted: number, signal?: AbortSignal): Promise<number> {
  while (LIMIT - taken < least) {
    await new Promise<void>((resolve) => {
      queue.push(resolve);
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
    signal?.throwIfAborted();
  }
  const count = Math.min(wanted, LIMIT - taken);
  taken += count;
  return count;
}

/** Gives calls back. */
export function giveBack(count: number): void {
  taken -= count;
  for (const wake of queue.splice(0)) wake();
}
