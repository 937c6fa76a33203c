/**
 * The names that a source of the user's opens: files, and indexes that name files beside them.
 */
import { ReadError } from "../base/errors.ts";
import { dirname, join, POSIX } from "../base/paths.ts";
import { type FileNames, type Found, type Index, isUrl } from "./inputs.ts";
import { checkIndexSize, indexNaming, missingShard, parseModelIndex } from "./model_index.ts";
import type { Source } from "./source.ts";

/** Names of a source's files. */
export class SourceNames implements FileNames {
  readonly folder: string | undefined;
  readonly #source: Source;

  /** @param folder what relative names count from, where they are local paths */
  constructor(source: Source, folder?: string) {
    this.#source = source;
    this.folder = folder;
  }

  async resolve(name: string): Promise<Found> {
    const [, path, query] = isUrl(name) ? /^([^?#]*)(.*)$/s.exec(name)! : ["", name, ""];
    const paths = isUrl(name) ? POSIX : { dirname, join };
    if (!path!.endsWith(".json")) return { paths: [name], notes: [] };
    const file = await this.#source.open(name);
    try {
      checkIndexSize(name, file.size);
      const bytes = new Uint8Array(file.size);
      await file.read(0, bytes);
      await file.verify?.();
      // What signs the URL of the index, such as a token for the whole folder, is for its files as well.
      return await parseModelIndex(name, bytes, (shard) => paths.join(paths.dirname(path!), shard) + query);
    } finally {
      await file.close();
    }
  }

  identify(name: string): string {
    return name;
  }

  explainAbsence(error: unknown, indexes: readonly Index[]): Promise<unknown> {
    if (!(error instanceof ReadError) || error.errno !== 2) return Promise.resolve(error);
    const index = indexNaming(error.path, indexes);
    return Promise.resolve(index ? missingShard(error, index) : error);
  }
}
