/**
 * Reads tensors or parts of them directly from their files, without communication between ranks: also files that another
 * rank has opened, and also after the load has ended.
 */
import { type Catalog, type CatalogTensor, pathOf } from "../files/catalog.ts";
import { ReadError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { LazyLoads } from "./lazy_loads.ts";
import type { LoadRequest } from "./load.ts";
import type { Session } from "./session.ts";
import { closeAll, type SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** A file that {@linkcode FileSlices} has opened. */
interface OpenedFile {
  readonly catalog: Catalog;
  /** Its index in the list of files. */
  readonly index: number;
}

/** Reads tensors and parts of them. Opens each file once, at its first use. */
export class FileSlices<T extends Tensor> {
  readonly #session: Session<T>;
  readonly #files: SourceFile[] = [];
  readonly #opened = new Map<string, Promise<OpenedFile>>();
  readonly #loads: LazyLoads<T>;

  constructor(session: Session<T>) {
    this.#session = session;
    this.#loads = new LazyLoads(session, this.#files);
  }

  /**
   * Loads a request for a tensor of the session's catalog. Requests of one turn of the event loop are read together.
   *
   * @param request makes the request from the tensor of the file that was opened for it
   * @throws {ReadError} if the file cannot be opened or read, or its tensor differs from the catalog's
   */
  async get(tensor: CatalogTensor, request: (found: CatalogTensor) => LoadRequest): Promise<T> {
    const path = pathOf(this.#session.catalog, tensor);
    const opened = await this.#open(path);
    this.#session.checkOpen("read tensor", tensor.name);
    const found = sameTensor(opened.catalog, tensor, path);
    return await this.#loads.get(request({ ...found, file: opened.index }));
  }

  /** Closes the files. All reads from them must have ended. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#opened.values());
    await closeAll(this.#files);
  }

  #open(path: string): Promise<OpenedFile> {
    const known = this.#opened.get(path);
    if (known) return known;
    const opened = this.#session.catalog.reopen(path).then((catalog) => {
      return { catalog, index: this.#files.push(...catalog.files) - 1 };
    });
    this.#opened.set(path, opened);
    opened.catch(() => this.#opened.delete(path)); // a later call tries again
    return opened;
  }
}

/** Returns the tensor of the file; throws if the rank that has opened the file found another one. */
function sameTensor({ tensors }: Catalog, wanted: CatalogTensor, path: string): CatalogTensor {
  const found = tensors.get(wanted.aliasOf ?? wanted.name) ?? tensors.get(wanted.name);
  const describe = ({ dtype, shape, fileOffset }: CatalogTensor) =>
    `${dtype} [${shape}] at offset ${fileOffset}`;
  if (found && describe(found) === describe(wanted)) return { ...found, name: wanted.name };
  const what = found ? describe(found) : "no such tensor";
  const message =
    `Cannot read tensor ${quote(wanted.name)} of ${quote(path)}: ${
      describe(wanted)
    } expected, ${what} found: ` +
    "is it the same file for every rank?";
  throw new ReadError(message, { path, offset: wanted.fileOffset, expected: wanted.byteLength });
}
