/**
 * What a save leaves behind of the set that it replaces.
 */
import { parseShardIndex } from "../format/shard_index.ts";
import { indexPathOf } from "./shards.ts";

/**
 * The files of the old set at this path that the new one does not replace under their names: shards of another count,
 * an index where there is none any more, a single file where there are shards now.
 *
 * @param paths the files of the new set
 */
export async function supersededBy(target: string, paths: readonly string[]): Promise<string[]> {
  const index = indexPathOf(target);
  const slash = target.lastIndexOf("/");
  const folder = slash < 0 ? "" : target.slice(0, slash + 1);
  const old = new Set<string>();
  if (await isFile(target)) old.add(target);
  if (await isFile(index)) {
    old.add(index);
    for (const name of parseShardIndex(await Deno.readFile(index), { path: index }).files) {
      if (await isFile(folder + name)) old.add(folder + name);
    }
  }
  for (const path of paths) old.delete(path);
  return [...old];
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
