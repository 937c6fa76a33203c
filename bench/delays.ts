/**
 * The common parts of benchmarks whose storage answers late: the option with the delays, and turns of the contenders.
 */
import { UsageError } from "../src/cli/arguments.ts";

/**
 * Parses a list of delays in milliseconds, with commas.
 *
 * @throws {UsageError} for anything else
 */
export function delaysOf(text: string): number[] {
  return text.split(",").map((word) => {
    if (/^\d{1,5}$/.test(word.trim())) return Number(word);
    throw new UsageError(`--delays must be whole milliseconds with commas, got "${text}"`);
  });
}

/** Runs every contender once a turn, beginning with another one in each. */
export async function inTurns<C, S>(
  all: readonly C[],
  turns: number,
  run: (contender: C) => Promise<S>,
): Promise<Map<C, S[]>> {
  const samples = new Map(all.map((contender) => [contender, [] as S[]]));
  for (let turn = 0; turn < turns; turn++) {
    for (let index = 0; index < all.length; index++) {
      const contender = all[(index + turn) % all.length]!;
      samples.get(contender)!.push(await run(contender));
    }
  }
  return samples;
}
