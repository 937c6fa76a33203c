/**
 * Names of models on the Hub: resolves a revision to a commit, lists the files of the commit, and chooses as in a folder.
 */
import { isRecord } from "../../base/check.ts";
import { closestWord } from "../../base/closest_word.ts";
import { RemoteError } from "../../base/errors.ts";
import { basename, POSIX } from "../../base/paths.ts";
import { quote } from "../../base/text.ts";
import { blobName, isBlobName, isCommit, isRepoPath, type Tree, type TreeFile } from "../cache/hub_layout.ts";
import type { HubRepo } from "../cache/hub_layout.ts";
import type { RemoteName } from "../http/host.ts";
import type { FileContext } from "../http/http_file.ts";
import { type RemoteText, requestText } from "../http/text.ts";
import { readWhole } from "../http/web_names.ts";
import type { Found } from "../inputs.ts";
import { resolveListing } from "../listed_folder.ts";
import { checkIndexSize, parseModelIndex } from "../model_index.ts";
import type { Naming } from "../model_folder.ts";
import type { SourceFile } from "../source.ts";
import type { RemoteKind } from "../remote_names.ts";
import { explainHub } from "./hub_errors.ts";
import { formatHubName, type HubName, parseHubName } from "./hub_name.ts";
import { HUB, type HubSettings } from "./hub_settings.ts";

/** What a cache knows of the Hub. */
export interface HubMemory {
  /** Returns the last known commit of a revision. */
  commitOf(repo: HubRepo, revision: string): Promise<string | null>;
  /** Returns the known files of a commit. */
  treeOf(repo: HubRepo, commit: string): Promise<Tree | null>;
  /** Returns the files of a commit that are there; other files of it are unknown. */
  cachedTreeOf(repo: HubRepo, commit: string): Promise<Tree | null>;
  /** Records a commit and its files. */
  describe(repo: HubRepo, revision: string, commit: string, tree: Tree | null): Promise<void>;
}

/** Most pages of a list of files, of 1000 files each. */
const MOST_PAGES = 500;

/** A name with its commit, and the files of the commit. */
interface Commit {
  readonly name: HubName;
  readonly commit: string;
  readonly tree: Tree;
}

/** Models on the Hub. */
export class HubNames implements RemoteKind {
  readonly #open: (path: string) => Promise<SourceFile>;
  readonly #listContext: FileContext;
  readonly #settings: HubSettings;
  readonly #memory: HubMemory | null;
  readonly #files = new Map<string, RemoteName>();

  /**
   * @param context for lists of files
   * @param open opens a file by its path
   * @param memory a cache, from which the Hub's answers come without a network; null without one
   */
  constructor(
    context: FileContext,
    open: (path: string) => Promise<SourceFile>,
    settings: HubSettings,
    memory: HubMemory | null = null,
  ) {
    this.#open = open;
    this.#listContext = context;
    this.#settings = settings;
    this.#memory = memory;
  }

  matches(name: string): boolean {
    return /^hf:\/\//i.test(name);
  }

  nameOf(path: string): RemoteName {
    const known = this.#files.get(path);
    if (known) return known;
    const name = parseHubName(path);
    return this.#remote(name, name.revision, path, null);
  }

  async resolve(given: string, naming: Naming): Promise<Found> {
    const at = await this.#commit(parseHubName(given));
    const { name: { path }, tree } = at;
    if (tree.has(path)) return await this.#file(at, path);
    const folder = path === "" ? "" : `${path}/`;
    const inside = [...tree.keys()].filter((file) => file.startsWith(folder)).map((file) =>
      file.slice(folder.length)
    );
    if (inside.length === 0) throw this.#noFile(at);
    return await resolveListing(
      {
        path: pathOf(at, path),
        names: inside.filter((file) => !file.includes("/")),
        below: inside.filter((file) => file.includes("/")),
        pathOf: (file) => this.#add(at, folder + file).path,
        readIndex: (file) => this.#index(at, folder + file),
      },
      naming,
    );
  }

  async #file(at: Commit, path: string): Promise<Found> {
    if (/\.json$/i.test(path)) return await this.#index(at, path);
    return { paths: [this.#add(at, path).path], notes: [] };
  }

  async #index(at: Commit, path: string): Promise<Found> {
    const name = this.#add(at, path);
    const bytes = await readWhole(() => this.#open(name.path), checkIndexSize);
    return await parseModelIndex(
      name.path,
      bytes,
      (shard) => this.#add(at, path.includes("/") ? POSIX.join(POSIX.dirname(path), shard) : shard).path,
    );
  }

  /** Returns the file of a path at a commit, with its size and checksum if the commit has it. */
  #add({ name, commit, tree }: Commit, path: string): RemoteName {
    const label = pathOf({ name, commit }, path);
    const remote = this.#remote({ ...name, path }, commit, label, tree.get(path) ?? null);
    this.#files.set(label, remote);
    return remote;
  }

  #remote(name: HubName, revision: string, label: string, file: TreeFile | null): RemoteName {
    const { repo, path } = name;
    const settings = this.#settings;
    const { endpoint, offline } = settings;
    const url = `${endpoint}/${repo.kind === "models" ? "" : `${repo.kind}/`}${repo.id}/resolve/${
      encodeURIComponent(revision)
    }/${path.split("/").map(encodeURIComponent).join("/")}`;
    const sha256 = file?.sha256 ?? null;
    return {
      path: label,
      isFixed: isCommit(revision),
      ...file && {
        size: file.size,
        sha256,
        hub: { repo, commit: revision, path, blob: blobName(file) },
      },
      locate: () => {
        if (offline) throw offlineError(label);
        return Promise.resolve({ url, headers: this.#headers() });
      },
      explain: (refusal) => explainHub(refusal, { ...name, revision }, settings),
      rewrite: (url) => this.#rewrite(url),
    };
  }

  #headers(): Record<string, string> {
    const { token } = this.#settings;
    return token === null ? {} : { authorization: `Bearer ${token}` };
  }

  /** A mirror names the original in its answers. */
  #rewrite(url: URL): URL {
    const { endpoint } = this.#settings;
    if (url.origin !== HUB || endpoint === HUB) return url;
    return new URL(endpoint + url.pathname + url.search);
  }

  /** Resolves the revision to a commit, so that all files are of one, and lists its files. */
  async #commit(name: HubName): Promise<Commit> {
    const { repo, revision } = name;
    const memory = this.#memory;
    const { offline } = this.#settings;
    let commit = isCommit(revision) ? revision : null;
    if (commit === null) {
      commit = offline ? await memory?.commitOf(repo, revision) ?? null : await this.#requestCommit(name);
      if (commit === null) throw offlineError(formatHubName(name));
    }
    const known = await memory?.treeOf(repo, commit) ??
      (offline ? await memory?.cachedTreeOf(repo, commit) : null);
    if (known) {
      if (!offline) await memory?.describe(repo, revision, commit, known);
      return { name, commit, tree: known };
    }
    if (offline) throw offlineError(formatHubName(name));
    const tree = await this.#requestTree(name, commit);
    await memory?.describe(repo, revision, commit, tree);
    return { name, commit, tree };
  }

  async #requestCommit(name: HubName): Promise<string> {
    const { repo: { kind, id }, revision } = name;
    const { text } = await this.#api(name, `/api/${kind}/${id}/revision/${encodeURIComponent(revision)}`);
    const answer = parseJson(text);
    const sha = isRecord(answer) ? answer["sha"] : undefined;
    if (typeof sha === "string" && isCommit(sha)) return sha;
    throw this.#unexpected(name, `no commit of revision ${quote(revision)}`);
  }

  async #requestTree(name: HubName, commit: string): Promise<Tree> {
    const { repo: { kind, id } } = name;
    const { endpoint } = this.#settings;
    const tree = new Map<string, TreeFile>();
    let next: string | null = `/api/${kind}/${id}/tree/${commit}?recursive=true&expand=false`;
    for (let page = 0; next !== null; page++) {
      if (page === MOST_PAGES) {
        throw this.#unexpected(name, `a list of files with more than ${MOST_PAGES} pages`);
      }
      const { text, headers }: RemoteText = await this.#api(name, next);
      const entries = parseJson(text);
      if (!Array.isArray(entries)) throw this.#unexpected(name, "a list of files that is not one");
      for (const entry of entries) {
        if (isRecord(entry) && entry["type"] !== "file") continue;
        const file = fileOf(entry);
        if (!file) throw this.#unexpected(name, "a list of files with an entry that is not a file");
        tree.set(...file);
      }
      next = null;
      const [, link] = /<([^<>]*)>\s*;\s*rel="?next"?/.exec(headers.get("link") ?? "") ?? [];
      if (link === undefined) continue;
      const url = URL.canParse(link, `${endpoint}/`) ? this.#rewrite(new URL(link, `${endpoint}/`)) : null;
      // The token is for the Hub alone.
      if (!url?.href.startsWith(`${endpoint}/`)) {
        throw this.#unexpected(name, "a list of files that another host continues");
      }
      next = url.href.slice(endpoint.length);
    }
    return tree;
  }

  #api(name: HubName, path: string): Promise<RemoteText> {
    const settings = this.#settings;
    return requestText(this.#listContext, {
      path: formatHubName(name),
      locate: () => Promise.resolve({ url: settings.endpoint + path, headers: this.#headers() }),
      explain: (refusal) => explainHub(refusal, name, settings),
      rewrite: (url) => this.#rewrite(url),
    });
  }

  #unexpected(name: HubName, what: string): RemoteError {
    const path = formatHubName(name);
    const message = `Cannot open ${quote(path)}: the Hub answered with ${what}`;
    return new RemoteError(message, { path, code: "InvalidAnswer" });
  }

  #noFile({ name, commit, tree }: Commit): RemoteError {
    const path = formatHubName(name);
    const nearest = closestWord(basename(name.path), tree.keys());
    const hint = nearest === undefined ? "" : `: did you mean ${quote(nearest)}?`;
    const message = name.path === ""
      ? `Cannot open ${quote(path)}: it has no files at commit ${commit}`
      : `Cannot open ${quote(path)}: there is no file or folder ${
        quote(name.path)
      } at commit ${commit}${hint}`;
    return new RemoteError(message, { path, code: "NotFound" });
  }
}

/** Returns the name of a file at its commit. */
function pathOf({ name: { repo }, commit }: Pick<Commit, "name" | "commit">, path: string): string {
  return formatHubName({ repo, revision: commit, path });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Parses an entry of a list of files; null if it is not valid. */
function fileOf(entry: unknown): [string, TreeFile] | null {
  if (!isRecord(entry)) return null;
  const { path, size, oid, lfs, xetHash } = entry;
  if (typeof path !== "string" || !isRepoPath(path) || typeof oid !== "string" || !isBlobName(oid)) {
    return null;
  }
  const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const pointer = isRecord(lfs) ? lfs : null;
  const bytes = pointer?.["size"] ?? size;
  const sha256 = pointer?.["oid"];
  if (!isSize(bytes) || (pointer && !(typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256)))) {
    return null;
  }
  return [path, {
    size: bytes,
    oid,
    ...typeof sha256 === "string" && { sha256 },
    ...typeof xetHash === "string" && { xetHash },
  }];
}

function offlineError(path: string): RemoteError {
  const message = `Cannot open ${
    quote(path)
  }: HF_HUB_OFFLINE forbids requests, and the cache does not have it`;
  return new RemoteError(message, { path, code: "Offline" });
}
