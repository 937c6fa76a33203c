/**
 * Where a rank's part of a tensor comes from.
 */

/** Options of {@linkcode FilesBuffer.getSharded} and {@linkcode SafeTensorsModel.getSharded}. */
export interface ShardOptions {
  /**
   * "group": the rank that has read the tensor hands out the parts, and all ranks make this call. "file": this rank
   * reads its part by itself, and no more of the file than that; the file must be where this rank sees it too.
   * Default "group".
   */
  from?: "group" | "file";
}

/**
 * Whether a part is to be read from the file.
 *
 * @throws {TypeError} if `from` is neither "group" nor "file"
 */
export function isFromFile({ from }: ShardOptions): boolean {
  if (from === undefined || from === "group" || from === "file") return from === "file";
  throw new TypeError(`from must be "group" or "file", got ${JSON.stringify(from)}`);
}
