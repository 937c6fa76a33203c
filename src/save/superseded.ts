/** Finds the files that a save replaces in addition to those with the same names. */
import { finishInTurns } from "../base/turn.ts";
import { parseShardIndex } from "../format/shard_index.ts";
import { dirname } from "../base/paths.ts";
import { lookAt } from "../files/native/folder.ts";
import { indexPathOf } from "./shards.ts";

/**
 * The old set at this path: the existing ones of a single file, an index and the shards that it names. An
 * unreadable index names no shards.
 */
export async function supersededBy(target: string): Promise<string[]> {
  const index = indexPathOf(target);
  const shards = (await shardsOf(index)).map((name) => `${dirname(target)}/${name}`);
  const paths = [target, index, ...shards];
  const infos = await Promise.all(paths.map((path) => lookAt(path)));
  return paths.filter((_, index) => infos[index]?.isFile || infos[index]?.isSymlink);
}

async function shardsOf(indexPath: string): Promise<readonly string[]> {
  try {
    const { files } = await finishInTurns(parseShardIndex(await Deno.readFile(indexPath)));
    return files.filter((name) => name.endsWith(".safetensors") && !name.includes("/"));
  } catch {
    return [];
  }
}
