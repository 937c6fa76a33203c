/**
 * The Hub's cache on disk (src/files/cache/hub_layout.ts): finds files in it, and adds files to it.
 *
 * A file counts as cached as soon as its path in `snapshots/` exists, for the Python package too, so nothing gets a name
 * in `blobs/` or `snapshots/` before it is whole.
 */
import {
  blobLink,
  CACHE_TAG,
  formatTree,
  type HubPlace,
  type HubRepo,
  isBlobName,
  isCommit,
  isRepoPath,
  parseTree,
  PARTIAL_FOLDER,
  repoFolder,
  type Tree,
  type TreeFile,
} from "../../cache/hub_layout.ts";
import { basename } from "../../../base/paths.ts";
import { isGranted } from "../../../../ffi/variables.ts";
import { removeQuietly, temporaryName } from "../folder.ts";
import { isWhole, type WholeFile } from "./partial_file.ts";

/** A file of a commit, with what the Hub says about its bytes. */
export interface HubFile extends HubPlace {
  /** Bytes. */
  readonly size: number;
  /** Its SHA-256, if the Hub says it. */
  readonly sha256: string | null;
}

/** The cache of the Hub in a folder. */
export class HubCache {
  /** The folder, an absolute path. */
  readonly folder: string;
  readonly #hasLinks: boolean;

  /** @param options.links whether snapshots consist of links; if not, or if links fail, of the files themselves */
  constructor(folder: string, options: { links?: boolean } = {}) {
    this.folder = folder;
    this.#hasLinks = options.links ?? true;
  }

  /** Returns the last known commit of a branch or tag; null if there is none in the cache. */
  async commitOf(repo: HubRepo, revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    if (!isRepoPath(revision)) return null;
    const text = await readText(`${this.#repo(repo)}/refs/${revision}`);
    const commit = text?.trim() ?? "";
    return isCommit(commit) ? commit : null;
  }

  /** Returns the known files of a commit; null if there is no list in the cache. */
  async treeOf(repo: HubRepo, commit: string): Promise<Tree | null> {
    const text = await readText(`${this.#repo(repo)}/trees/${commit}.json`);
    return text === null ? null : parseTree(text);
  }

  /** Returns the cached files of a commit as a list, for a program without a network; null if there are none. */
  async cachedTreeOf(repo: HubRepo, commit: string): Promise<Tree | null> {
    const tree = new Map<string, TreeFile>();
    for (const path of await this.#filesOf(repo, commit)) {
      const pointer = `${this.#snapshot(repo, commit)}/${path}`;
      const blob = await Deno.readLink(pointer).then(basename, () => "");
      const { size } = await Deno.stat(pointer);
      const sha256 = /^[0-9a-f]{64}$/.test(blob) ? { sha256: blob } : {};
      tree.set(path, { size, oid: isBlobName(blob) ? blob : "unknown", ...sha256 });
    }
    return tree.size === 0 ? null : tree;
  }

  /** Lists the cached files of a commit: the paths in the repository. */
  async #filesOf(repo: HubRepo, commit: string): Promise<string[]> {
    if (!isCommit(commit)) return [];
    const paths: string[] = [];
    const snapshot = this.#snapshot(repo, commit);
    const list = async (folder: string): Promise<void> => {
      for await (const { name, isDirectory } of Deno.readDir(`${snapshot}/${folder}`)) {
        if (isDirectory) await list(`${folder}${name}/`);
        else if (await isFile(`${snapshot}/${folder}${name}`)) paths.push(folder + name);
      }
    };
    await list("").catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    return paths.sort();
  }

  /**
   * Returns the local path of a cached file; null if it is not cached.
   *
   * @param size its bytes, if known: a file with another size is not used
   */
  async find(repo: HubRepo, commit: string, path: string, size?: number): Promise<string | null> {
    if (!isCommit(commit) || !isRepoPath(path)) return null;
    const pointer = `${this.#snapshot(repo, commit)}/${path}`;
    return await isFile(pointer, size) ? pointer : null;
  }

  /**
   * Writes what is known about a commit, before its files are added: the commit of the revision, and the list of files.
   * What cannot be written is left out.
   */
  async describe(repo: HubRepo, revision: string, commit: string, tree: Tree | null): Promise<void> {
    // The Python package reports a repository without "snapshots", and a revision whose commit has no folder there.
    await Deno.mkdir(this.#snapshot(repo, commit), { recursive: true });
    await Deno.writeTextFile(`${this.folder}/CACHEDIR.TAG`, CACHE_TAG, { createNew: true }).catch(() => {});
    if (!isCommit(revision) && isRepoPath(revision)) {
      await this.#replaceText(repo, `refs/${revision}`, commit);
    }
    if (tree) await this.#replaceText(repo, `trees/${commit}.json`, formatTree(tree));
  }

  /** Records that a commit is used now: the system does not record each access to a file. */
  async touch(repo: HubRepo, commit: string): Promise<void> {
    const path = `${this.#repo(repo)}/${PARTIAL_FOLDER}/${commit}.used`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(path, "");
  }

  /**
   * Returns what a partial file of a file needs; null if its names cannot be used in a cache. If the blob is there, it
   * becomes a file of this commit without a download; then {@linkcode find} finds it.
   *
   * @param name the name of the file in messages
   * @param fills whether the cache may be changed. Default true
   */
  async place(file: HubFile, name: string, fills = true): Promise<WholeFile | null> {
    const { repo, commit, path, blob, size, sha256 } = file;
    if (!isCommit(commit) || !isRepoPath(path) || !isBlobName(blob)) return null;
    const folder = this.#repo(repo);
    const destination = `${folder}/blobs/${blob}`;
    if (fills) {
      await Deno.mkdir(`${folder}/blobs`, { recursive: true });
      if (await isWhole(destination, size)) await this.#link(file, destination, false);
    }
    return {
      folder: `${folder}/${PARTIAL_FOLDER}`,
      name: blob,
      size,
      sha256,
      destination,
      path: name,
      placed: () => this.#link(file, destination, true),
    };
  }

  /** Gives a blob its path in the snapshot. */
  async #link(
    { repo, commit, path, blob, size }: HubFile,
    destination: string,
    isNew: boolean,
  ): Promise<void> {
    const pointer = `${this.#snapshot(repo, commit)}/${path}`;
    if (await isFile(pointer, size)) return;
    await Deno.mkdir(pointer.slice(0, pointer.lastIndexOf("/")), { recursive: true });
    await removeQuietly(pointer); // a broken link
    const link = async (make: () => Promise<void>): Promise<boolean> => {
      try {
        await make();
        return true;
      } catch {
        return await isFile(pointer, size); // another process has made it, or the file system has no such links
      }
    };
    if (this.#hasLinks) {
      if (mayLink() && await link(() => Deno.symlink(blobLink(path, blob), pointer))) return;
      if (await link(() => Deno.link(destination, pointer))) return;
    }
    if (isNew) return await Deno.rename(destination, pointer);
    const temporary = await this.#temporary(repo);
    await Deno.copyFile(destination, temporary);
    await Deno.rename(temporary, pointer);
  }

  /** Writes a small file as a whole: another process reads either the old text or the new one. */
  async #replaceText(repo: HubRepo, name: string, text: string): Promise<void> {
    const path = `${this.#repo(repo)}/${name}`;
    if (await readText(path) === text) return;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const temporary = await this.#temporary(repo);
    try {
      await Deno.writeTextFile(temporary, text);
      await Deno.rename(temporary, path);
    } catch (error) {
      await removeQuietly(temporary);
      throw error;
    }
  }

  /** Returns a path for a temporary file. In "refs" and "snapshots" the Python package would find it. */
  async #temporary(repo: HubRepo): Promise<string> {
    const folder = `${this.#repo(repo)}/${PARTIAL_FOLDER}`;
    await Deno.mkdir(folder, { recursive: true });
    return `${folder}/${temporaryName()}`;
  }

  #repo(repo: HubRepo): string {
    return `${this.folder}/${repoFolder(repo)}`;
  }

  #snapshot(repo: HubRepo, commit: string): string {
    return `${this.#repo(repo)}/snapshots/${commit}`;
  }
}

/** Whether Deno makes symbolic links: only with the permissions for all files, which it would ask for. */
function mayLink(): boolean {
  return isGranted({ name: "read" }) && isGranted({ name: "write" });
}

async function isFile(path: string, size?: number): Promise<boolean> {
  const info = await Deno.stat(path).catch(() => null);
  return info !== null && info.isFile && (size === undefined || info.size === size);
}

async function readText(path: string): Promise<string | null> {
  return await Deno.readTextFile(path).catch(() => null);
}
