/**
 * The cache of files from other servers than the Hub, in a folder of this package:
 *
 *   KEY                 the content of one version of a file; KEY is made of its URL and its ETag (cache/url_key.ts)
 *   KEY.json            its URL without query, its ETag and its size
 *   .fastsafetensors/   partial files
 */
import { isRecord } from "../../../base/check.ts";
import { PARTIAL_FOLDER } from "../../cache/hub_layout.ts";
import { urlKey, type UrlVersion, withoutSecrets } from "../../cache/url_key.ts";
import { removeQuietly, temporaryName } from "../folder.ts";
import { isWhole, type WholeFile } from "./partial_file.ts";

/** The cache of files from other servers in a folder. */
export class UrlCache {
  /** The folder, an absolute path. */
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /**
   * Returns what a partial file of a version needs, and the path of the whole file if it is cached.
   *
   * @param url the URL as the user passed it
   * @param name the name of the file in messages
   */
  async place(
    url: string,
    { etag, size, sha256 }: Omit<UrlVersion, "url"> & { readonly sha256: string | null },
    name: string,
  ): Promise<{ readonly file: WholeFile; readonly cached: string | null }> {
    const version = { url: withoutSecrets(url), etag, size };
    const key = await urlKey(version);
    const destination = `${this.folder}/${key}`;
    const file: WholeFile = {
      folder: `${this.folder}/${PARTIAL_FOLDER}`,
      name: key,
      size,
      sha256,
      destination,
      path: name,
      placed: () => this.#describe(key, version),
    };
    return { file, cached: await isWhole(destination, size) ? destination : null };
  }

  /** Describes a file for people: its name is a hash. The query is left out, as it can have a secret of any name. */
  async #describe(key: string, { url, etag, size }: UrlVersion): Promise<void> {
    const temporary = `${this.folder}/${PARTIAL_FOLDER}/${temporaryName()}`;
    const text = JSON.stringify({ url: url.replace(/\?.*$/s, ""), etag, size }, null, 1);
    try {
      await Deno.writeTextFile(temporary, text);
      await Deno.rename(temporary, `${this.folder}/${key}.json`);
    } catch {
      await removeQuietly(temporary); // the file can be used without a description
    }
  }
}

/** Returns the URL of a cached file; null if it has no valid description. */
export async function urlOfKey(folder: string, key: string): Promise<string | null> {
  try {
    const description: unknown = JSON.parse(await Deno.readTextFile(`${folder}/${key}.json`));
    return isRecord(description) && typeof description["url"] === "string" ? description["url"] : null;
  } catch {
    return null;
  }
}

/** Whether a name is that of a file in this cache. */
export function isUrlKey(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}
