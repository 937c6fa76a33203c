/**
 * Runs the contenders in turns, with the wanted state of the page cache and touched memory.
 */
import type { CacheKind, Contender } from "./contenders.ts";
import { type Sample, TOUCH } from "./sample.ts";
import type { Tools } from "./tools.ts";

/** Options of the turns. */
export interface TurnOptions<C extends Contender> {
  readonly turns: number;
  /** Whether the page cache holds the files. */
  readonly kind: CacheKind;
  /** Bytes of memory that a contender needs at most. */
  readonly memory: number;
  /** Called after every turn with all samples so far. */
  readonly onTurn?: (samples: ReadonlyMap<C, readonly Sample[]>) => Promise<void>;
}

/** Runs every contender once a turn, beginning with another one in each. */
export async function takeTurns<C extends Contender>(
  tools: Tools,
  all: readonly C[],
  { turns, kind, memory, onTurn }: TurnOptions<C>,
): Promise<Map<C, Sample[]>> {
  Deno.env.set(TOUCH, tools.touchCommand(memory));
  const samples = new Map(all.map((contender) => [contender, [] as Sample[]]));
  for (let turn = 0; turn < turns; turn++) {
    for (let index = 0; index < all.length; index++) {
      const contender = all[(index + turn) % all.length]!;
      await setCache(tools, contender.files, kind);
      samples.get(contender)!.push(await contender.run());
    }
    await onTurn?.(samples);
  }
  return samples;
}

/**
 * Loads the files into the page cache, or drops them from it.
 *
 * @throws {Error} if that does not work
 */
async function setCache(tools: Tools, files: readonly string[], kind: CacheKind): Promise<void> {
  if (kind === "hot") {
    const { cached, total } = await tools.pageCache("state", files);
    if (cached === total) return;
    const warmed = await tools.pageCache("warm", files);
    if (warmed.cached === null || warmed.cached === total) return;
    throw new Error(`Cannot measure hot: of ${total} bytes only ${warmed.cached} stay in the page cache`);
  }
  const { cached } = await tools.pageCache("drop", files);
  if (cached === null) console.error("warning: this system cannot tell whether the files are really cold");
  else if (cached > 0) throw new Error(`Cannot measure cold: the page cache still holds ${cached} bytes`);
}
