/**
 * The folders of the caches.
 */
import { cacheFolder } from "../../../../ffi/build.ts";
import { resolve } from "../../../base/paths.ts";
import { hubCacheFolder } from "../../cache/hub_layout.ts";
import { absolutePath } from "../local_path.ts";
import { SURROUNDINGS } from "../network_host.ts";

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
 * @throws {TypeError} if the environment does not say where the caches are
 */
export function cacheFolders(given?: string): CacheFolders {
  if (given !== undefined) {
    const hub = absolutePath(given);
    return { hub, urls: resolve(hub, "urls") };
  }
  const hub = hubCacheFolder(SURROUNDINGS.variable);
  if (hub === undefined) {
    throw new TypeError(
      'Cannot find the cache of the Hub: neither "HF_HUB_CACHE", "HF_HOME" nor "HOME" is set or may be read: set one, or pass cache: false',
    );
  }
  return { hub: absolutePath(hub), urls: `${cacheFolder()}/urls` };
}
