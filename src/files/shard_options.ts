/**
 * Where a rank's part of a tensor comes from.
 */
import { checkKeys, checkWord, keysOf } from "../base/check.ts";

/** Options of {@linkcode FilesBuffer.getSharded} and {@linkcode SafeTensorsModel.getSharded}. */
export interface ShardOptions {
  /**
   * "group": the rank that has read the tensor hands out the parts, and all ranks make this call. "file": this rank
   * reads its part by itself, and no more of the file than that; the file must be where this rank sees it too.
   * Default "group".
   */
  from?: "group" | "file";
}

const KEYS = keysOf<ShardOptions>({ from: true });

/**
 * Whether a part is to be read from the file.
 *
 * @throws {TypeError} if an option is unknown, or `from` is neither "group" nor "file"
 */
export function isFromFile(options: ShardOptions): boolean {
  checkKeys("getSharded()", options, KEYS);
  checkWord("from", options.from, ["group", "file"]);
  return options.from === "file";
}
