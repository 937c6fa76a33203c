/**
 * What the cache knows of the Hub, for names of models on it. A failure of the cache is a note.
 */
import { isGranted } from "../../../../ffi/variables.ts";
import { quote } from "../../../base/text.ts";
import type { HubRepo, Tree } from "../../cache/hub_layout.ts";
import type { HubMemory } from "../../hub/hub_names.ts";
import { systemReason } from "../errno.ts";
import type { HubCache } from "./hub_cache.ts";

/** The Hub's cache as a memory of its answers. */
export class CachedHub implements HubMemory {
  readonly notes: string[] = [];
  readonly #cache: HubCache;
  /** Without permissions nothing is read or written: Deno would ask for them. The source of the files notes it. */
  readonly #mayRead: boolean;
  readonly #fills: boolean;

  /** @param fills whether new answers are recorded */
  constructor(cache: HubCache, fills: boolean) {
    const path = cache.folder;
    this.#cache = cache;
    this.#mayRead = isGranted({ name: "read", path });
    this.#fills = fills && this.#mayRead && isGranted({ name: "write", path });
  }

  async commitOf(repo: HubRepo, revision: string): Promise<string | null> {
    return this.#mayRead ? await this.#cache.commitOf(repo, revision) : null;
  }

  async treeOf(repo: HubRepo, commit: string): Promise<Tree | null> {
    return this.#mayRead ? await this.#cache.treeOf(repo, commit) : null;
  }

  async cachedTreeOf(repo: HubRepo, commit: string): Promise<Tree | null> {
    return this.#mayRead ? await this.#cache.cachedTreeOf(repo, commit) : null;
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
