/**
 * Reads indexes, which list the shard of each tensor.
 */
import { type ReadError, SafeTensorsError } from "../base/errors.ts";
import { parseShardIndex } from "../format/shard_index.ts";
import { STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import type { Found, Index } from "./inputs.ts";

/** Largest index in bytes. Real ones have at most about 25 MB. */
const MAX_INDEX_BYTES = 256 * 2 ** 20;

/** Throws if an index is too large, before it is read. */
export function checkIndexSize(path: string, size: number): void {
  if (size <= MAX_INDEX_BYTES) return;
  const message = `Cannot read ${
    quote(path)
  }: an index of ${size} bytes is larger than the limit of ${MAX_INDEX_BYTES}`;
  throw new SafeTensorsError("InvalidIndex", message, { path });
}

/**
 * Parses the bytes of an index.
 *
 * @param pathOf returns the path of a file that the index names
 * @throws {SafeTensorsError} "InvalidIndex"
 */
export async function parseModelIndex(
  path: string,
  bytes: Uint8Array,
  pathOf: (shard: string) => string,
): Promise<Found & { readonly index: Index }> {
  const index = await finishInTurns(parseShardIndex(bytes, { path, maxBytes: MAX_INDEX_BYTES }));
  if (index.files.length === 0) {
    const message = `Cannot open a model by the shard index ${quote(path)}: its "weight_map" is empty`;
    throw new SafeTensorsError("InvalidIndex", message, { path });
  }
  const paths = new Map(index.files.map((file) => [file, pathOf(file)]));
  const weightMap = new Map<string, string>();
  const turn = new Turn();
  for (const [name, file] of index.weightMap) {
    weightMap.set(name, paths.get(file)!);
    if (weightMap.size % STEP === 0) await turn.pause();
  }
  return { paths: [...paths.values()], index: { path, weightMap }, notes: [] };
}

/** Returns the index that lists a file; undefined if there is none. */
export function indexNaming(path: string, indexes: readonly Index[]): Index | undefined {
  return indexes.find(({ weightMap }) => weightMap.values().some((shard) => shard === path));
}

/** Makes the error for a file that an index lists but that does not exist. */
export function missingShard(error: ReadError, index: Index, why = "it does not exist"): SafeTensorsError {
  const { path } = error;
  const message = `Cannot open ${quote(path)}: the index ${quote(index.path)} names this shard, and ${why}`;
  return new SafeTensorsError("MissingShard", message, { path, cause: error });
}
