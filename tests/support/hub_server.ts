/**
 * A stand-in of the Hub of Hugging Face: its API, its redirects to another host with signed URLs, and its errors, as
 * shared/reference describes them and `huggingface_hub` expects them.
 */
import { createHash } from "node:crypto";
import { FaultyServer, type Received, type Reply, type ServedFiles, usualReply } from "./faulty_server.ts";

/** A repository of the stand-in. */
export interface ServedRepo {
  /** Its id, with `datasets/` or `spaces/` before it for these kinds. */
  readonly id: string;
  /** Revision → commit. */
  readonly revisions: Record<string, string>;
  /** Commit → files. */
  readonly commits: Record<string, ServedFiles>;
  /** Who may read it. Default "public". */
  access?: "public" | "private" | "gated" | "disabled";
}

/** The token that opens private repositories, and the one of an account without rights. */
export const TOKEN = "hf_goodgoodgood", WEAK_TOKEN = "hf_weakweakweak";

/** Files from this size on are on the other host. */
const LFS_BYTES = 1000;

/** Returns a SHA-256 in hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Returns the SHA-1 of a git blob. */
export function gitSha1(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

/** A running stand-in. */
export class HubServer implements AsyncDisposable {
  readonly api: FaultyServer;
  /** The host of the large files. Its URLs are signed for one generation. */
  readonly cdn: FaultyServer;
  readonly repos: ServedRepo[];
  /** Entries of one page of a list of files. */
  pageEntries = 1000;
  /** The generation of signatures that is valid. */
  generation = 1;
  /** Changes an answer of the API. */
  change: (request: Received, usual: Reply) => Reply = (_, usual) => usual;

  constructor(...repos: ServedRepo[]) {
    this.repos = repos;
    this.api = new FaultyServer({}, (request) => this.change(request, this.#answer(request)));
    this.cdn = new FaultyServer({}, (request) => this.#deliver(request));
  }

  /** The URL of the Hub. */
  get endpoint(): string {
    return this.api.url("").replace(/\/$/, "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api[Symbol.asyncDispose]();
    await this.cdn[Symbol.asyncDispose]();
  }

  #answer(request: Received): Reply {
    const [path, query = ""] = request.target.split("?") as [string, string?];
    const cached = /^\/api\/resolve-cache\/([^/]+)\/(.+)$/.exec(path);
    const [, apiKind, apiId, rest = ""] =
      /^\/api\/(models|datasets|spaces)\/([^/]+\/[^/]+)(\/.*)?$/.exec(path) ?? [];
    if (apiKind !== undefined) {
      const id = apiKind === "models" ? apiId! : `${apiKind}/${apiId}`;
      return this.#access(id, request) ?? this.#api(this.#repo(id)!, rest, new URLSearchParams(query));
    }
    if (cached) return this.#small(decodeURIComponent(cached[2]!), cached[1]!, request);
    const [, id, revision, file] =
      /^\/((?:datasets\/|spaces\/)?[^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
    if (id === undefined) return failure(404, "", "no such page");
    const denied = this.#access(id, request);
    if (denied) return denied;
    return this.#resolve(this.#repo(id)!, decodeURIComponent(revision!), decodeURIComponent(file!));
  }

  #repo(id: string): ServedRepo | undefined {
    return this.repos.find((repo) => repo.id === id);
  }

  /** The refusal of a request; null if it is allowed. */
  #access(id: string, { headers }: Received): Reply | null {
    const given = headers.get("authorization");
    const repo = this.#repo(id);
    if (given !== undefined && given !== `Bearer ${TOKEN}` && given !== `Bearer ${WEAK_TOKEN}`) {
      return failure(401, "", "Invalid credentials in Authorization header");
    }
    const isKnown = given !== undefined;
    if (!repo) {
      return isKnown
        ? failure(404, "RepoNotFound", "Repository not found")
        : failure(401, "RepoNotFound", "");
    }
    const access = repo.access ?? "public";
    if (access === "disabled") return failure(403, "", "Access to this resource is disabled.");
    if (access === "public" || given === `Bearer ${TOKEN}`) return null;
    if (access === "gated") return failure(isKnown ? 403 : 401, "GatedRepo", "Access to model is restricted");
    return isKnown ? failure(403, "", "You need the role read") : failure(401, "RepoNotFound", "");
  }

  #api(repo: ServedRepo, rest: string, query: URLSearchParams): Reply {
    const [, revision] = /^\/revision\/([^/]+)$/.exec(rest) ?? [];
    if (rest === "" || revision !== undefined) {
      const sha = this.#commit(repo, decodeURIComponent(revision ?? "main"));
      return sha === undefined
        ? failure(404, "RevisionNotFound", "")
        : json({ id: repo.id, sha, private: false });
    }
    const [, at, below = ""] = /^\/tree\/([^/]+)(?:\/(.*))?$/.exec(rest) ?? [];
    const commit = at === undefined ? undefined : this.#commit(repo, decodeURIComponent(at));
    if (commit === undefined) return failure(404, "RevisionNotFound", "");
    const entries = treeOf(repo.commits[commit]!).filter(({ path }) => path.startsWith(below));
    const start = Number(query.get("cursor") ?? 0), stop = start + this.pageEntries;
    query.set("cursor", String(stop));
    const link = `<${this.endpoint}/api/models/${repo.id}${rest}?${query}>; rel="next"`;
    return json(entries.slice(start, stop), stop < entries.length ? { link } : {});
  }

  #commit({ revisions, commits }: ServedRepo, revision: string): string | undefined {
    return revisions[revision] ?? (revision in commits ? revision : undefined);
  }

  #resolve(repo: ServedRepo, revision: string, path: string): Reply {
    const commit = this.#commit(repo, revision);
    if (commit === undefined) return failure(404, "RevisionNotFound", "");
    const bytes = repo.commits[commit]![path];
    if (!bytes) return failure(404, "EntryNotFound", "");
    const common = { "x-repo-commit": commit, "x-linked-size": String(bytes.length) };
    if (bytes.length < LFS_BYTES) {
      const location = `/api/resolve-cache/${commit}/${encodeURIComponent(`${repo.id}/${path}`)}`;
      return { status: 307, headers: { ...common, location, "x-linked-etag": `"${gitSha1(bytes)}"` } };
    }
    const sum = sha256(bytes);
    this.cdn.files[`/xet/${sum}`] = bytes;
    const location = this.cdn.url(`/xet/${sum}?X-Amz-Signature=generation${this.generation}`, "localhost");
    return { status: 302, headers: { ...common, location, "x-linked-etag": `"${sum}"`, "x-xet-hash": sum } };
  }

  #small(name: string, commit: string, request: Received): Reply {
    const repo = this.repos.find(({ id }) => name.startsWith(`${id}/`))!;
    const bytes = repo.commits[commit]![name.slice(repo.id.length + 1)]!;
    return usualReply({ "/x": bytes }, { ...request, target: "/x" });
  }

  /** The storage behind the signed URLs answers 400 to a token besides the signature, and 403 when it has expired. */
  #deliver(request: Received): Reply | null {
    if (request.headers.has("authorization")) return failure(400, "", "Only one auth mechanism allowed");
    return request.target.endsWith(`=generation${this.generation}`) ? null : failure(403, "", "AccessDenied");
  }
}

/** The entries of a list of files, with their folders. */
function treeOf(files: ServedFiles) {
  const folders = new Set(
    Object.keys(files).flatMap((path) => {
      const parts = path.split("/").slice(0, -1);
      return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
    }),
  );
  return [
    ...Array.from(folders, (path) => ({ type: "directory", path, size: 0, oid: "0".repeat(40) })),
    ...Object.entries(files).map(([path, bytes]) => {
      if (bytes.length < LFS_BYTES) return { type: "file", path, size: bytes.length, oid: gitSha1(bytes) };
      const oid = sha256(bytes);
      const pointer = new TextEncoder().encode(
        `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${bytes.length}\n`,
      );
      const lfs = { oid, size: bytes.length, pointerSize: pointer.length };
      return { type: "file", path, size: bytes.length, oid: gitSha1(pointer), lfs, xetHash: oid };
    }),
  ];
}

function json(value: unknown, headers: Record<string, string> = {}): Reply {
  const body = new TextEncoder().encode(JSON.stringify(value));
  return { headers: { "content-type": "application/json", ...headers }, body };
}

function failure(status: number, code: string, message: string): Reply {
  const headers = { ...code === "" ? {} : { "x-error-code": code }, "x-error-message": message };
  return { status, headers, body: new TextEncoder().encode(JSON.stringify({ error: message })) };
}
