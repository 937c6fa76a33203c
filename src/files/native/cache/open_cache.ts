/**
 * Opens the cache that the option `cache` and the environment name.
 */
import { messageOf } from "../../../base/text.ts";
import type { CacheOption, CacheOptions } from "../../network_options.ts";
import type { HubMemory } from "../../hub/hub_names.ts";
import type { SourceFile } from "../../source.ts";
import { type CachingOptions, CachingSource } from "./caching_source.ts";
import { type CacheFolders, cacheFolders } from "./folders.ts";
import { SURROUNDINGS } from "../network_host.ts";
import { CachedHub } from "./hub_memory.ts";
import { HubCache } from "./hub_cache.ts";

/** An open cache. */
export interface OpenedCache<F extends SourceFile> {
  /** Opens files through it. */
  readonly source: CachingSource<F>;
  /** What it knows of the Hub. */
  readonly memory: HubMemory;
}

/**
 * Opens the cache.
 *
 * @returns a note for the user, if the cache was not asked for and the environment does not say where it is
 * @throws {TypeError} if it was asked for, and the environment does not say where it is
 */
export function openCache<F extends SourceFile>(
  option: CacheOption | undefined,
  options: Omit<CachingOptions<F>, "folders" | "urls" | "fills" | "links" | "memory">,
): OpenedCache<F> | string {
  const { folder, fill = true }: CacheOptions = typeof option === "string"
    ? { folder: option }
    : typeof option === "object"
    ? option
    : {};
  let folders: CacheFolders;
  try {
    folders = cacheFolders(folder);
  } catch (error) {
    if (option !== undefined) throw error;
    return messageOf(error);
  }
  const links = !/^(?:1|on|yes|true)$/i.test(SURROUNDINGS.variable("HF_HUB_DISABLE_SYMLINKS") ?? "");
  const memory = new CachedHub(new HubCache(folders.hub, { links }), fill);
  const source = new CachingSource({
    ...options,
    folders,
    urls: option !== undefined,
    fills: fill,
    links,
    memory,
  });
  return { source, memory };
}
