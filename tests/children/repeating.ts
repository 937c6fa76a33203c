/**
 * Common parts of the programs that repeat actions, and print their resources after a warm-up and at the end.
 */
import { useLibrary } from "../../ffi/library.ts";
import { openTargets, threadCount } from "../support/process.ts";

declare const gc: () => void;

/** The resources of a process, in bytes and in numbers. */
export type Resources = Record<string, number>;

/** Selects the portable engine, without its notice, if requested. */
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

/** Runs these actions in turn, a quarter of the rounds as a warm-up. */
export async function repeat(
  acts: readonly (() => Promise<unknown>)[],
  rounds: number,
): Promise<{ before: Resources; after: Resources }> {
  for (let round = 0; round < rounds / 4; round++) await acts[round % acts.length]!();
  const before = await resources();
  for (let round = 0; round < rounds; round++) await acts[round % acts.length]!();
  return { before, after: await resources() };
}

async function resources(): Promise<Resources> {
  for (let turn = 0; turn < 3; turn++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { rss, heapUsed, external } = Deno.memoryUsage();
  // Deno opens its caches at any time, and a pair of sockets within its first seconds.
  const caches = `${Deno.realPathSync(Deno.env.get("DENO_DIR")!)}/`;
  const targets = openTargets().filter((each) => !each.startsWith(caches) && !each.startsWith("socket:"));
  return { rss, heapUsed, external, descriptors: targets.length, threads: threadCount() };
}
