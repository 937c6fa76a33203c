/**
 * Indexes: which file of a model has which tensor.
 */
import { type ReadError, SafeTensorsError } from "../base/errors.ts";
import { parseShardIndex } from "../format/shard_index.ts";
import { STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import type { Found, Index } from "./inputs.ts";

/** Indexes reach 25 MB; this is far beyond any real one. */
const MAX_INDEX_BYTES = 256 * 2 ** 20;

/** Throws if an index has more bytes than any real one, before they are read. */
export function checkIndexSize(path: string, size: number): void {
  if (size <= MAX_INDEX_BYTES) return;
  const message = `Cannot read ${
    quote(path)
  }: an index of ${size} bytes is larger than the limit of ${MAX_INDEX_BYTES}`;
  throw new SafeTensorsError("InvalidIndex", message, { path });
}

/**
 * What the bytes of an index say.
 *
 * @param pathOf the path of a file that the index names
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

/** The index that names a file; undefined if none does. */
export function indexNaming(path: string, indexes: readonly Index[]): Index | undefined {
  return indexes.find(({ weightMap }) => weightMap.values().some((shard) => shard === path));
}

/** The error about a file that an index names and that is not there. */
export function missingShard(error: ReadError, index: Index, why = "it is not there"): SafeTensorsError {
  const { path } = error;
  const message = `Cannot open ${quote(path)}: the index ${quote(index.path)} names this shard, and ${why}`;
  return new SafeTensorsError("MissingShard", message, { path, cause: error });
}
