/**
 * What the programs share that do something again and again, and tell what they hold after a warm-up and at the end.
 */
import { useLibrary } from "../../ffi/library.ts";
import { openTargets, threadCount } from "../support/process.ts";

declare const gc: () => void;

/** What a process holds, in bytes and in numbers. */
export type Held = Record<string, number>;

/** Takes the portable engine, without its notice, where it is asked for. */
export function useEngine(engine: string): void {
  if (engine !== "portable") return;
  useLibrary(null);
  console.warn = () => {};
}

/** @throws {Error} if `act` does not fail */
export async function expectError(act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch {
    return;
  }
  throw new Error("This should have failed");
}

/** Does these things by turns, a quarter of the rounds as a warm-up. */
export async function repeat(
  acts: readonly (() => Promise<unknown>)[],
  rounds: number,
): Promise<{ before: Held; after: Held }> {
  for (let round = 0; round < rounds / 4; round++) await acts[round % acts.length]!();
  const before = await held();
  for (let round = 0; round < rounds; round++) await acts[round % acts.length]!();
  return { before, after: await held() };
}

async function held(): Promise<Held> {
  for (let turn = 0; turn < 3; turn++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { rss, heapUsed, external } = Deno.memoryUsage();
  // Deno opens its caches when it feels like it, and a pair of sockets some time in its first seconds.
  const caches = `${Deno.realPathSync(Deno.env.get("DENO_DIR")!)}/`;
  const targets = openTargets().filter((each) => !each.startsWith(caches) && !each.startsWith("socket:"));
  return { rss, heapUsed, external, descriptors: targets.length, threads: threadCount() };
}
