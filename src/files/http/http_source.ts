/**
 * The source of files on servers.
 */
import { quote } from "../../base/text.ts";
import type { Source } from "../source.ts";
import type { RemoteName } from "./host.ts";
import { type FileContext, FIRST_BYTES, HttpFile } from "./http_file.ts";

/** Opens remote files by the labels of their names. */
export class HttpSource implements Source<HttpFile> {
  readonly name = "http";
  readonly #context: FileContext;
  readonly #nameOf: (path: string) => RemoteName;
  readonly #notes: string[] = [];

  /** @param nameOf returns the file of a path that a user named, or that was found in a list of files */
  constructor(context: FileContext, nameOf: (path: string) => RemoteName) {
    this.#context = context;
    this.#nameOf = nameOf;
  }

  get notes(): readonly string[] {
    return this.#notes;
  }

  open(path: string): Promise<HttpFile> {
    return this.openWithHead(path, FIRST_BYTES);
  }

  /** Opens a file; its head has so many bytes. */
  async openWithHead(path: string, firstBytes: number): Promise<HttpFile> {
    const file = await HttpFile.open(this.#context, this.#nameOf(path), firstBytes);
    this.#notes.push(...file.takeNotes());
    if (!file.ranges) {
      this.#notes.push(`The server of ${quote(file.path)} ignores ranges: the file is read as one stream`);
    }
    return file;
  }
}
