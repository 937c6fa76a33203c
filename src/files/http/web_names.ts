/**
 * Names of files that are URLs: `https://host/model.safetensors`, or an index with its shards beside it.
 */
import { quote } from "../../base/text.ts";
import type { Found } from "../inputs.ts";
import { checkIndexSize, parseModelIndex } from "../model_index.ts";
import type { RemoteKind } from "../remote_names.ts";
import type { SourceFile } from "../source.ts";
import type { RemoteName } from "./host.ts";
import { type FileContext, HttpFile } from "./http_file.ts";
import { labelOf, Labels } from "./labels.ts";

/** Files by URL. */
export class WebNames implements RemoteKind {
  readonly #context: FileContext;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #labels = new Labels();
  readonly #names = new Map<string, RemoteName>();

  /** @param headers headers of the user, for the hosts that the user names */
  constructor(context: FileContext, headers: Readonly<Record<string, string>>) {
    this.#context = context;
    this.#headers = headers;
  }

  matches(name: string): boolean {
    return /^https?:\/\//i.test(name);
  }

  nameOf(path: string): RemoteName {
    return this.#names.get(path) ?? this.#add(path);
  }

  async resolve(url: string): Promise<Found> {
    const name = this.#add(url);
    const { pathname, search } = new URL(url);
    if (!pathname.endsWith(".json")) return { paths: [name.path], notes: [] };
    return await openWebIndex(this.#context, name, (shard) => {
      const beside = new URL(shard.split("/").map(encodeURIComponent).join("/"), url);
      beside.search = search; // a token for the whole folder is for its shards too
      return this.#add(beside.href).path;
    });
  }

  #add(given: string): RemoteName {
    const url = parse(given);
    const headers: Record<string, string> = { ...this.#headers };
    if (url.username !== "" || url.password !== "") {
      const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      headers["authorization"] = `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(user)))}`;
    }
    url.username = url.password = url.hash = "";
    const address = { url: url.href, headers };
    const path = this.#labels.of(url.href);
    const name = { path, locate: () => Promise.resolve(address) };
    this.#names.set(path, name);
    return name;
  }
}

/** @throws {TypeError} if the name is not a URL, or that of a page */
function parse(given: string): URL {
  if (!URL.canParse(given)) {
    throw new TypeError(`Cannot open ${quote(given.replace(/[?#].*$/s, ""))}: it is not a URL`);
  }
  const url = new URL(given);
  const [, id, page, rest] = /^\/([\w.-]+\/[\w.-]+)(?:\/(tree|blob)(\/.+))?\/?$/.exec(url.pathname) ?? [];
  if (id === undefined || !/^(?:huggingface\.co|hf\.co)$/.test(url.hostname)) return url;
  const [, revision, path] = /^\/([^/]+)(.*)$/.exec(rest ?? "/main")!;
  const name = `hf://${id}${page === undefined || revision === "main" ? "" : `@${revision}`}${path}`;
  throw new TypeError(`Cannot open ${quote(labelOf(url))}: it is a page for people: open ${quote(name)}`);
}

/**
 * Reads an index.
 *
 * @param pathOf returns the path of a shard
 */
export async function openWebIndex(
  context: FileContext,
  name: RemoteName,
  pathOf: (shard: string) => string,
): Promise<Found> {
  const bytes = await readWhole(() => HttpFile.open(context, name), checkIndexSize);
  return await parseModelIndex(name.path, bytes, pathOf);
}

/**
 * Reads a whole file, such as an index.
 *
 * @param check throws if the file is too large
 */
export async function readWhole(
  open: () => Promise<SourceFile>,
  check: (path: string, size: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const file = await open();
  try {
    check(file.path, file.size);
    const bytes = new Uint8Array(file.size);
    const { head } = file;
    bytes.set(head);
    await file.read(head.byteLength, bytes.subarray(head.byteLength));
    return bytes;
  } finally {
    await file.close();
  }
}
