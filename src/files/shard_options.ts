/**
 * The options of `getSharded()`: the origin of a rank's part of a tensor.
 */
import { checkKeys, checkWord, keysOf } from "../base/check.ts";

/** Options of {@linkcode FilesBuffer.getSharded} and {@linkcode SafeTensorsModel.getSharded}. */
export interface ShardOptions {
  /**
   * "group": the rank that has read the tensor sends the parts, and all ranks make this call. "file": this rank reads
   * only its part of the file, without communication; it needs access to the file. Default "group".
   */
  from?: "group" | "file";
}

/** The keys of {@linkcode ShardOptions}. */
export const SHARD_KEYS = keysOf<ShardOptions>({ from: true });

/**
 * Whether a part is read from the file.
 *
 * @param keys the keys of all options of the call
 * @throws {TypeError} if an option is unknown, or `from` is neither "group" nor "file"
 */
export function isFromFile(options: ShardOptions, keys: readonly string[] = SHARD_KEYS): boolean {
  checkKeys("getSharded()", options, keys);
  checkWord("from", options.from, ["group", "file"]);
  return options.from === "file";
}
