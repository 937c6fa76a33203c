/**
 * A source of remote files that reads them through the cache: a file that is there whole is a local file, others fill it.
 */
import { quote } from "../../../base/text.ts";
import { CachedFile } from "../../cache/cached_file.ts";
import type { HubPlace } from "../../cache/hub_layout.ts";
import type { RemoteName } from "../../http/host.ts";
import { FIRST_BYTES } from "../../http/http_file.ts";
import type { HttpSource } from "../../http/http_source.ts";
import type { RemoteFile } from "../../http/remote_file.ts";
import type { LocalSource, Source, SourceFile } from "../../source.ts";
import { systemReason } from "../errno.ts";
import { type CacheFolders, mayUse } from "./folders.ts";
import { HubCache } from "./hub_cache.ts";
import { type LaneFiles, PartialFile, type WholeFile } from "./partial_file.ts";
import { UrlCache } from "./url_cache.ts";
import { holdFile } from "./usage.ts";

/** What {@linkcode CachingSource} needs. */
export interface CachingOptions<F extends SourceFile> {
  /** Opens remote files. */
  readonly remote: HttpSource;
  /** Opens local files. */
  readonly local: LocalSource<F>;
  /** Returns the lasting name of a remote file. */
  readonly nameOf: (path: string) => RemoteName;
  readonly folders: CacheFolders;
  /** Whether the files of other servers than the Hub are in the cache, too. */
  readonly urls: boolean;
  /** Whether bytes go to the cache; if not, it is only read. */
  readonly fills: boolean;
  /** Whether snapshots consist of links. Default true. */
  readonly links?: boolean;
  /** Opens descriptors for lanes; null without lanes. */
  readonly lanes: LaneFiles | null;
  /** Ends the load. */
  readonly signal?: AbortSignal | undefined;
}

/** Opens remote files through the cache. */
export class CachingSource<F extends SourceFile> implements Source<F | RemoteFile> {
  readonly name = "http";
  readonly #options: CachingOptions<F>;
  readonly #hub: HubCache;
  readonly #urls: UrlCache;
  readonly #notes = new Set<string>();

  constructor(options: CachingOptions<F>) {
    this.#options = options;
    const { folders, links } = options;
    this.#hub = new HubCache(folders.hub, links === undefined ? {} : { links });
    this.#urls = new UrlCache(folders.urls);
  }

  get notes(): readonly string[] {
    return [...this.#options.remote.notes ?? [], ...this.#notes];
  }

  async open(path: string): Promise<F | RemoteFile> {
    const { remote, nameOf, folders, urls } = this.#options;
    const name = nameOf(path);
    const isUsed = name.hub ? this.#mayUse(folders.hub) : urls && this.#mayUse(folders.urls);
    if (!isUsed) return await remote.open(path);
    return name.hub ? await this.#openHub(path, name, name.hub) : await this.#openUrl(path, name);
  }

  /** Opens a file of the Hub: the list of files says enough to find it in the cache. */
  async #openHub(path: string, name: RemoteName, hub: HubPlace): Promise<F | RemoteFile> {
    const { size, sha256 = null } = name;
    if (size === undefined) throw new TypeError(`Cannot open ${quote(path)}: its size is unknown`);
    const cache = await this.#try(name, async () => {
      const { fills } = this.#options;
      const file = { ...hub, size, sha256 };
      const place = await this.#hub.place(file, name.path, fills);
      const local = await this.#hub.find(hub.repo, hub.commit, hub.path, size);
      if (local !== null) return await this.#openLocal(local, name);
      return place && await this.#openPartial(place);
    });
    if (!cache) return await this.#options.remote.open(path);
    return "file" in cache ? await this.#openThrough(cache, path) : cache;
  }

  /** Opens a file of another server, which says its version only when it is opened. */
  async #openUrl(path: string, name: RemoteName): Promise<F | RemoteFile> {
    const remote = await this.#options.remote.open(path);
    const { etag, size, sha256 } = remote;
    if (etag === null) {
      this.#notes.add(`${quote(name.path)} is not kept in the cache: its server sends no strong ETag`);
      return remote;
    }
    const cache = await this.#try(name, async () => {
      const url = (await name.locate()).url;
      const { file, cached } = await this.#urls.place(url, { etag, size, sha256 }, name.path);
      return cached === null ? await this.#openPartial(file) : await this.#openLocal(cached, name);
    });
    if (!cache) return remote;
    if ("file" in cache) return await this.#openThrough(cache, path, remote);
    await remote.close();
    return cache;
  }

  /** Uses the cache; if it fails, a note says why, and the result is null. */
  async #try<R>({ path }: RemoteName, use: () => Promise<R>): Promise<R | null> {
    try {
      return await use();
    } catch (error) {
      this.#notes.add(`The cache was not used for ${quote(path)}: ${systemReason(error)}`);
      return null;
    }
  }

  async #openPartial(place: WholeFile): Promise<{ file: PartialFile; notes: string[] } | null> {
    const { fills, lanes } = this.#options;
    const notes: string[] = [];
    const file = await PartialFile.open(place, { fills, lanes, note: (note) => notes.push(note) });
    return file && { file, notes };
  }

  /** Opens a remote file that is read through a partial file. */
  async #openThrough(
    { file, notes }: { file: PartialFile; notes: string[] },
    path: string,
    opened?: RemoteFile,
  ): Promise<RemoteFile> {
    const { remote: source, fills, signal } = this.#options;
    try {
      let head = opened ? null : await readHead(file);
      const remote = opened ?? await (head ? source.openWithHead(path, 1) : source.open(path));
      head ??= new Uint8Array(remote.head); // a copy: others can share it
      if (fills) await file.write(0, head);
      return new CachedFile(remote, file, head, notes, signal);
    } catch (error) {
      await file.abandon();
      throw error;
    }
  }

  /** Whether the cache can be used; if not, a note says why. */
  #mayUse(folder: string): boolean {
    const { fills } = this.#options;
    if (mayUse(folder, fills)) return true;
    const flags = fills ? `--allow-read=${folder} and --allow-write=${folder}` : `--allow-read=${folder}`;
    this.#notes.add(`The cache in ${quote(folder)} was not used: run again with ${flags}`);
    return false;
  }

  /** Opens a file that is in the cache. */
  async #openLocal(local: string, { path, hub }: RemoteName): Promise<F> {
    const held = await holdFile(local);
    if (hub && this.#options.fills) await this.#hub.touch(hub.repo, hub.commit).catch(() => {}); // only for "prune"
    try {
      return await this.#options.local.open(local, undefined, false, {
        path,
        release: () => held[Symbol.dispose](),
      });
    } catch (error) {
      held[Symbol.dispose]();
      throw error;
    }
  }
}

/** Returns the first bytes of a file if the cache has them, else null. */
async function readHead(file: PartialFile): Promise<Uint8Array<ArrayBuffer> | null> {
  const head = new Uint8Array(Math.min(FIRST_BYTES, file.size));
  if (!file.has(0, head.byteLength)) return null;
  return await file.read(0, head).then(() => head, () => null);
}
