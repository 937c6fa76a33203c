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
import { isGranted } from "../../../../ffi/variables.ts";
import { systemReason } from "../errno.ts";
import type { CacheFolders } from "./folders.ts";
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
  /** Its notes are those of the source, too. */
  readonly memory?: { readonly notes: readonly string[] };
  /** Opens descriptors for lanes; null without lanes. */
  readonly lanes: LaneFiles | null;
  /** Ends the load. */
  readonly signal?: AbortSignal | undefined;
  /** Whether a wrong checksum is an error when a file is closed. Default: a note. */
  readonly isStrict?: boolean | undefined;
}

/** How a cache is used. */
interface Use {
  /** Whether bytes go to it; if not, it is only read. */
  readonly fills: boolean;
}

interface OpenPartial extends Use {
  readonly file: PartialFile;
  /** Its notes for the user. */
  readonly notes: string[];
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
    const { remote, memory } = this.#options;
    return [...remote.notes, ...memory?.notes ?? [], ...this.#notes];
  }

  async open(path: string): Promise<F | RemoteFile> {
    const { remote, nameOf, folders, urls } = this.#options;
    const name = nameOf(path);
    const use = name.hub ? this.#useOf(folders.hub) : urls ? this.#useOf(folders.urls) : null;
    if (!use) return await remote.open(path);
    return name.hub ? await this.#openHub(path, name, name.hub, use) : await this.#openUrl(path, name, use);
  }

  /** Opens a file of the Hub: the list of files says enough to find it in the cache. */
  async #openHub(path: string, name: RemoteName, hub: HubPlace, use: Use): Promise<F | RemoteFile> {
    const { size, sha256 = null } = name;
    if (size === undefined) throw new TypeError(`Cannot open ${quote(path)}: its size is unknown`);
    const cache = await this.#try(name, async () => {
      const file = { ...hub, size, sha256 };
      const found = await this.#hub.find(hub.repo, hub.commit, hub.path, size);
      if (found !== null) return await this.#openLocal(found, name, use);
      const place = await this.#hub.place(file, name.path, use.fills);
      const linked = await this.#hub.find(hub.repo, hub.commit, hub.path, size);
      if (linked !== null) return await this.#openLocal(linked, name, use);
      return place && await this.#openPartial(place, use);
    });
    if (!cache) return await this.#options.remote.open(path);
    return "file" in cache ? await this.#openThrough(cache, path) : cache;
  }

  /** Opens a file of another server, which says its version only when it is opened. */
  async #openUrl(path: string, name: RemoteName, use: Use): Promise<F | RemoteFile> {
    const remote = await this.#options.remote.open(path);
    const { etag, size, sha256 } = remote;
    if (etag === null) {
      this.#notes.add(`${quote(name.path)} is not kept in the cache: its server sends no strong ETag`);
      return remote;
    }
    const cache = await this.#try(name, async () => {
      const url = (await name.locate()).url;
      const { file, cached } = await this.#urls.place(url, { etag, size, sha256 }, name.path);
      return cached === null ? await this.#openPartial(file, use) : await this.#openLocal(cached, name, use);
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

  async #openPartial(place: WholeFile, { fills }: Use): Promise<OpenPartial | null> {
    const notes: string[] = [];
    const { lanes } = this.#options;
    const file = await PartialFile.open(place, { fills, lanes, note: (note) => notes.push(note) });
    return file && { file, notes, fills };
  }

  /** Opens a remote file that is read through a partial file. */
  async #openThrough(
    { file, notes, fills }: OpenPartial,
    path: string,
    opened?: RemoteFile,
  ): Promise<RemoteFile> {
    const { remote: source, signal, isStrict } = this.#options;
    try {
      let head = opened ? null : await readHead(file);
      const remote = opened ?? await (head ? source.openWithHead(path, 1) : source.open(path));
      head ??= new Uint8Array(remote.head); // a copy: others can share it
      if (fills) await file.write(0, head);
      return new CachedFile(remote, file, head, notes, { signal, isStrict });
    } catch (error) {
      await file.abandon();
      throw error;
    }
  }

  /** How this program may use a folder; null if not at all. What it may not do is a note. */
  #useOf(folder: string): Use | null {
    const { fills } = this.#options;
    const mayRead = isGranted({ name: "read", path: folder });
    const mayWrite = isGranted({ name: "write", path: folder });
    if (mayRead && (mayWrite || !fills)) return { fills };
    const flags = fills ? `--allow-read=${folder} and --allow-write=${folder}` : `--allow-read=${folder}`;
    const what = mayRead ? "not filled" : "not used";
    this.#notes.add(`The cache in ${quote(folder)} was ${what}: run again with ${flags}`);
    return mayRead ? { fills: false } : null;
  }

  /** Opens a file that is in the cache. */
  async #openLocal(local: string, { path, hub }: RemoteName, { fills }: Use): Promise<F> {
    const held = await holdFile(local);
    if (hub && fills) await this.#hub.touch(hub.repo, hub.commit).catch(() => {}); // only for "prune"
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
