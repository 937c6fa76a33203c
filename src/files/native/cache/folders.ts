/**
 * The folders of the caches.
 */
import { cacheFolder } from "../../../../ffi/build.ts";
import { environmentVariable, isGranted } from "../../../../ffi/variables.ts";
import { resolve } from "../../../base/paths.ts";
import { hubCacheFolder } from "../../cache/hub_layout.ts";
import { absolutePath } from "../local_path.ts";

/** The folders of the caches, absolute paths. */
export interface CacheFolders {
  /** The Hub's cache. */
  readonly hub: string;
  /** The cache of files from other servers. */
  readonly urls: string;
}

/**
 * Returns the folders of the caches.
 *
 * @param given the folder that the user gave; default is that of the environment
 * @throws {Error} if the environment does not say where the caches are
 */
export function cacheFolders(given?: string): CacheFolders {
  if (given !== undefined) {
    const hub = absolutePath(given);
    return { hub, urls: resolve(hub, "urls") };
  }
  const hub = hubCacheFolder(environmentVariable);
  if (hub === undefined) {
    throw new Error(
      'Cannot find the cache of the Hub: neither "HF_HUB_CACHE", "HF_HOME" nor "HOME" is set or may be read',
    );
  }
  return { hub: absolutePath(hub), urls: `${cacheFolder()}/urls` };
}

/** Whether this program may read a folder, and write to it if `writes`, without a question to the user. */
export function mayUse(folder: string, writes: boolean): boolean {
  return isGranted({ name: "read", path: folder }) && (!writes || isGranted({ name: "write", path: folder }));
}
