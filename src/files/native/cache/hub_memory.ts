/**
 * What the cache knows of the Hub, for names of models on it. A failure of the cache is a note.
 */
import { quote } from "../../../base/text.ts";
import type { HubRepo, Tree } from "../../cache/hub_layout.ts";
import type { HubMemory } from "../../hub/hub_names.ts";
import { systemReason } from "../errno.ts";
import type { HubCache } from "./hub_cache.ts";

/** The Hub's cache as a memory of its answers. */
export class CachedHub implements HubMemory {
  readonly notes: string[] = [];
  readonly #cache: HubCache;
  readonly #fills: boolean;

  /** @param fills whether new answers are recorded */
  constructor(cache: HubCache, fills: boolean) {
    this.#cache = cache;
    this.#fills = fills;
  }

  commitOf(repo: HubRepo, revision: string): Promise<string | null> {
    return this.#cache.commitOf(repo, revision);
  }

  treeOf(repo: HubRepo, commit: string): Promise<Tree | null> {
    return this.#cache.treeOf(repo, commit);
  }

  cachedTreeOf(repo: HubRepo, commit: string): Promise<Tree | null> {
    return this.#cache.cachedTreeOf(repo, commit);
  }

  async describe(repo: HubRepo, revision: string, commit: string, tree: Tree | null): Promise<void> {
    if (!this.#fills) return;
    try {
      await this.#cache.describe(repo, revision, commit, tree);
    } catch (error) {
      this.notes.push(`The cache in ${quote(this.#cache.folder)} was not filled: ${systemReason(error)}`);
    }
  }
}
