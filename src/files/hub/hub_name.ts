/**
 * Names of models on the Hub: `hf://[models/|datasets/|spaces/]org/name[@revision][/path]`.
 */
import { quote } from "../../base/text.ts";
import { type HubRepo, isRepoPath, type RepoKind } from "../cache/hub_layout.ts";

/** A parsed name. */
export interface HubName {
  readonly repo: HubRepo;
  /** A branch, a tag, a commit, or a reference such as `refs/pr/1`. */
  readonly revision: string;
  /** A file or a folder of the repository; empty for its top. */
  readonly path: string;
}

/** The parts of the Hub that can be named. */
const KINDS: readonly string[] = ["models", "datasets", "spaces"];

/** Parts of the Hub whose files have other addresses. */
const OTHERS: readonly string[] = ["kernels", "buckets", "collections", "papers"];

/**
 * Parses a name.
 *
 * @throws {TypeError} if it is not of this form
 */
export function parseHubName(name: string): HubName {
  const fail = (why: string): never => {
    throw new TypeError(`Cannot open ${quote(name)}: ${why}`);
  };
  const parts = name.replace(/^hf:\/\//i, "").replace(/\/+$/, "").split("/");
  const kind = KINDS.includes(parts[0]!) ? parts.shift()! : "models";
  if (OTHERS.includes(parts[0]!)) {
    fail(`${parts[0]} of the Hub cannot be opened, only models, datasets and spaces`);
  }
  const [org = "", second = "", ...rest] = parts;
  if (org === "" || second === "") {
    fail(
      org === ""
        ? "the form is hf://org/name[@revision][/path]"
        : "a model has two names, hf://org/name: old names of one word need their owner, such as hf://openai-community/gpt2",
    );
  }
  const at = second.indexOf("@");
  const id = at < 0 ? second : second.slice(0, at);
  for (const part of [org, id]) {
    if (!/^[\w][\w.-]{0,95}$/.test(part)) fail(`${quote(part)} is not a name on the Hub`);
  }
  let revision = "main";
  if (at >= 0) {
    const after = [second.slice(at + 1), ...rest].join("/");
    const [given] = /^refs\/(?:pr\/\d+|convert\/[^/]+)|^[^/]*/.exec(after)!;
    revision = decode(given) ?? fail(`${quote(given)} is not a revision`);
    rest.splice(0, given.split("/").length - 1);
    if (!isRepoPath(revision)) fail(`${quote(revision)} is not a revision`);
  }
  const path = rest.join("/");
  if (path !== "" && !isRepoPath(path)) fail(`${quote(path)} is not a path in a model`);
  return { repo: { kind: kind as RepoKind, id: `${org}/${id}` }, revision, path };
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** Returns the name of a file or a folder at a revision. */
export function formatHubName({ repo: { kind, id }, revision, path }: HubName): string {
  const prefix = kind === "models" ? "" : `${kind}/`;
  const at = /^refs\/(?:pr\/\d+|convert\/[^/]+)$/.test(revision) ? revision : encodeURIComponent(revision);
  return `hf://${prefix}${id}@${at}${path === "" ? "" : `/${path}`}`;
}

/** What a repository is, for messages. */
export function describeRepo({ kind, id }: HubRepo): string {
  return `${kind.slice(0, -1)} ${quote(id)}`;
}
