/**
 * Names for a source of the user: files, and indexes that list files in the same place.
 */
import { ReadError } from "../base/errors.ts";
import { dirname, join, POSIX } from "../base/paths.ts";
import { type FileNames, type Found, type Index, isUrl } from "./inputs.ts";
import { checkIndexSize, indexNaming, missingShard, parseModelIndex } from "./model_index.ts";
import type { Source } from "./source.ts";

/** Resolves names of the files of a source. */
export class SourceNames implements FileNames {
  readonly folder: string | undefined;
  readonly #source: Source;

  /** @param folder the folder of relative names, if they are local paths */
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
      // The query of the index's URL, such as a token for the whole folder, is also used for its files.
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
