/**
 * Names of a source of the user that says where files are: their URLs, and headers for the requests.
 */
import { describeValue, isRecord } from "../../base/check.ts";
import { POSIX } from "../../base/paths.ts";
import { quote } from "../../base/text.ts";
import type { Found } from "../inputs.ts";
import { checkHeaders } from "../network_options.ts";
import type { RemoteKind } from "../remote_names.ts";
import type { UrlSource } from "../source.ts";
import type { RemoteName } from "./host.ts";
import type { FileContext } from "./http_file.ts";
import { openWebIndex } from "./web_names.ts";
import type { RemoteAddress } from "./remote_file.ts";

/** Files by the names of a source. */
export class LocatedNames implements RemoteKind {
  readonly #context: FileContext;
  readonly #source: UrlSource;

  constructor(context: FileContext, source: UrlSource) {
    this.#context = context;
    this.#source = source;
  }

  matches(): boolean {
    return true;
  }

  nameOf(path: string): RemoteName {
    const source = this.#source;
    return { path, locate: async () => checkAddress(source, path, await source.locate(path)) };
  }

  async resolve(path: string): Promise<Found> {
    if (!path.endsWith(".json")) return { paths: [path], notes: [] };
    const folder = path.includes("/") ? POSIX.dirname(path) : "";
    return await openWebIndex(
      this.#context,
      this.nameOf(path),
      (shard) => folder === "" ? shard : POSIX.join(folder, shard),
    );
  }
}

/** @throws {TypeError} if the user's function has returned something else */
function checkAddress({ name }: UrlSource, path: string, value: unknown): RemoteAddress {
  const fail = (what: string): never => {
    throw new TypeError(`The source ${quote(name)} cannot locate ${quote(path)}: ${what}`);
  };
  if (!isRecord(value)) return fail(`locate() must return an object with a URL, got ${describeValue(value)}`);
  const { url, headers = {} } = value as { url?: unknown; headers?: unknown };
  const text = url instanceof URL ? url.href : url;
  if (typeof text !== "string" || !URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    return fail("its URL must be an https: or http: URL");
  }
  return {
    url: text,
    headers: checkHeaders(`The headers of ${quote(path)} from the source ${quote(name)}`, headers),
  };
}
