/**
 * Names of objects in services of the S3 interface: `s3://bucket/key`, or a prefix whose objects are listed as a folder.
 */
import { RemoteError, type RemoteErrorCode } from "../../base/errors.ts";
import { POSIX } from "../../base/paths.ts";
import { printable, quote } from "../../base/text.ts";
import type { Refusal, RemoteName } from "../http/host.ts";
import { type FileContext, HttpFile } from "../http/http_file.ts";
import { requestText } from "../http/text.ts";
import { readWhole } from "../http/web_names.ts";
import type { Found } from "../inputs.ts";
import { resolveListing } from "../listed_folder.ts";
import { checkIndexSize, parseModelIndex } from "../model_index.ts";
import { type Naming, PYTORCH, SAFETENSORS } from "../model_folder.ts";
import type { RemoteKind } from "../remote_names.ts";
import type { S3Settings } from "./s3_settings.ts";
import { encodePath, presign } from "./signature.ts";

/** Seconds for which a signature is valid; it is made anew when it has expired. */
const EXPIRES_SECONDS = 6 * 3600;

/** Most objects of a prefix. */
const MOST_OBJECTS = 100_000;

/** A parsed name. */
interface S3Name {
  readonly bucket: string;
  readonly key: string;
}

/** Objects by name. */
export class S3Names implements RemoteKind {
  readonly #context: FileContext;
  readonly #settings: S3Settings;
  /** Bucket → its region, where it is not that of the settings. */
  readonly #regions = new Map<string, string>();
  readonly #sizes = new Map<string, number>();

  constructor(context: FileContext, settings: S3Settings) {
    this.#context = context;
    this.#settings = settings;
  }

  matches(name: string): boolean {
    return /^s3:\/\//i.test(name);
  }

  nameOf(path: string): RemoteName {
    const { bucket, key } = parseS3Name(path);
    const size = this.#sizes.get(path);
    return {
      path,
      ...size !== undefined && { size },
      follows: false, // a signature is for one host
      locate: async () => ({ url: await this.#url(bucket, key, []), headers: {} }),
      explain: (refusal) => this.#explain(refusal, path, bucket),
    };
  }

  async resolve(path: string, naming: Naming): Promise<Found> {
    const { bucket, key } = parseS3Name(path);
    if (/\.json$/i.test(key)) return await this.#index(path);
    const isFile = key !== "" && !key.endsWith("/") &&
      [...SAFETENSORS.files, ...PYTORCH.files].some((suffix) => key.toLowerCase().endsWith(suffix));
    if (isFile) return { paths: [path], notes: [] };
    const folder = key === "" || key.endsWith("/") ? key : `${key}/`;
    const names = await this.#list(path, bucket, folder);
    if (names.length === 0 && folder !== key) return { paths: [path], notes: [] }; // an object without a known suffix
    const pathOf = (name: string) => `s3://${bucket}/${folder}${name}`;
    return await resolveListing({
      path,
      names: names.filter((name) => !name.includes("/")),
      below: names.filter((name) => name.includes("/")),
      pathOf,
      readIndex: (name) => this.#index(pathOf(name)),
    }, naming);
  }

  async #index(path: string): Promise<Found> {
    const bytes = await readWhole(() => HttpFile.open(this.#context, this.nameOf(path)), checkIndexSize);
    return await parseModelIndex(path, bytes, (shard) => POSIX.join(POSIX.dirname(path), shard));
  }

  /** Lists the objects of a folder and below, without the path of the folder. */
  async #list(path: string, bucket: string, folder: string): Promise<string[]> {
    const names: string[] = [];
    let next: string | undefined;
    do {
      const query: [string, string][] = [
        ["list-type", "2"],
        ["prefix", folder],
        ["max-keys", "1000"],
        ["encoding-type", "url"],
      ];
      if (next !== undefined) query.push(["continuation-token", next]);
      const { text } = await requestText(this.#context, {
        path,
        follows: false,
        locate: async () => ({ url: await this.#url(bucket, "", query), headers: {} }),
        explain: (refusal) => this.#explain(refusal, path, bucket),
      });
      const page = parseList(text);
      if (!page) throw invalid(path, "the server answered with what is not a list of objects");
      for (const { key, size } of page.objects) {
        if (!key.startsWith(folder) || key === folder || key.endsWith("/")) continue;
        const name = key.slice(folder.length);
        if (name.split("/").some((part) => part === "" || part === "." || part === "..")) continue;
        names.push(name);
        this.#sizes.set(`s3://${bucket}/${key}`, size);
      }
      if (names.length > MOST_OBJECTS) {
        throw invalid(path, `it has more than ${MOST_OBJECTS} objects: name its folder`);
      }
      if (page.next !== undefined && page.next === next) {
        throw invalid(path, "its list of objects does not end");
      }
      next = page.next;
    } while (next !== undefined);
    return names;
  }

  /** Returns the URL of a request, with a signature if there are keys. */
  async #url(bucket: string, key: string, query: readonly [string, string][]): Promise<string> {
    const { endpoint } = this.#settings;
    const region = this.#regions.get(bucket) ?? this.#settings.region;
    const host = `s3.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
    // The certificate of AWS is for one name before its own: buckets with dots are in the path.
    const isInPath = endpoint !== null || bucket.includes(".");
    const base = endpoint ?? (isInPath ? `https://${host}` : `https://${bucket}.${host}`);
    const url = new URL(`${base}${isInPath ? `/${bucket}` : ""}/${encodePath(key)}`);
    if (key === "" && isInPath) url.pathname = url.pathname.replace(/\/$/, "");
    for (const [name, value] of query) url.searchParams.append(name, value);
    const credentials = await this.#settings.credentials();
    if (!credentials) return url.href;
    return (await presign(url, { credentials, region, now: new Date(), expiresSeconds: EXPIRES_SECONDS }))
      .href;
  }

  /** Explains a refusal; corrects the region of a bucket once. */
  #explain({ status, headers, text }: Refusal, path: string, bucket: string): Error | "again" | null {
    const code = inner(text, "Code") ?? "";
    const region = headers.get("x-amz-bucket-region") ?? inner(text, "Region") ??
      /^[\w.-]*?s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com/.exec(
        inner(text, "Endpoint")?.slice(0, 300) ?? "",
      )?.[1];
    const isElsewhere = status === 301 || status === 307 ||
      /^(?:PermanentRedirect|AuthorizationHeaderMalformed|AuthorizationQueryParametersError|IllegalLocationConstraintException)$/
        .test(code);
    if (
      isElsewhere && region !== undefined && /^[a-z0-9-]+$/.test(region) &&
      region !== this.#regions.get(bucket)
    ) {
      this.#regions.set(bucket, region);
      return "again";
    }
    const error = (kind: RemoteErrorCode, why: string) =>
      new RemoteError(`Cannot open ${quote(path)}: ${why}`, { path, code: kind, status });
    const said = code === "" ? `status ${status}` : printable(code);
    switch (code) {
      case "NoSuchBucket":
        return error("NotFound", `there is no bucket ${quote(bucket)}: check its name and the endpoint`);
      case "NoSuchKey":
        return error("NotFound", "there is no such object");
      case "ExpiredToken":
      case "InvalidToken":
        return error("AccessDenied", `the session has expired (${said}): get new keys`);
      case "InvalidAccessKeyId":
      case "SignatureDoesNotMatch":
        return error(
          "AccessDenied",
          `the service refuses the keys (${said}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`,
        );
      case "RequestTimeTooSkewed":
        return error("AccessDenied", `the clock of this machine is wrong (${said})`);
    }
    if (isElsewhere) {
      return error("InvalidAnswer", `the bucket is in another region (${said}): set AWS_REGION`);
    }
    if (status === 401 || status === 403) {
      return error(
        "AccessDenied",
        `the service refuses access (${said}): the keys must allow reading the object and listing the bucket; ` +
          "without keys only public objects can be read",
      );
    }
    return null;
  }
}

/**
 * Parses a name.
 *
 * @throws {TypeError} if it is not of the form `s3://bucket/key`
 */
export function parseS3Name(path: string): S3Name {
  const [, bucket = "", key = ""] = /^s3:\/\/([^/]*)(?:\/(.*))?$/is.exec(path) ?? [];
  if (!/^[a-z\d][\w.-]{1,61}[a-z\d]$/i.test(bucket)) {
    throw new TypeError(
      `Cannot open ${quote(path)}: ${quote(bucket)} is not the name of a bucket: s3://bucket/key`,
    );
  }
  if (key.split("/").some((part) => part === "." || part === "..")) {
    throw new TypeError(`Cannot open ${quote(path)}: a key with "." or ".." cannot be requested by a URL`);
  }
  return { bucket, key };
}

/** A page of a list of objects. */
interface Page {
  readonly objects: readonly { readonly key: string; readonly size: number }[];
  /** The token for the next page. */
  readonly next: string | undefined;
}

/** Parses a page of a list of objects; null if it is not one. */
export function parseList(xml: string): Page | null {
  if (!/<ListBucketResult[\s>]/.test(xml)) return null;
  const isEncoded = inner(xml, "EncodingType") === "url";
  const objects: { key: string; size: number }[] = [];
  let end = 0;
  for (let start; (start = xml.indexOf("<Contents>", end)) >= 0;) {
    end = xml.indexOf("</Contents>", start); // a regular expression would take very long for a list without ends
    if (end < 0) return null;
    const content = xml.slice(start, end);
    const text = inner(content, "Key"), size = Number(inner(content, "Size"));
    if (text === undefined || !Number.isSafeInteger(size) || size < 0) return null;
    try {
      objects.push({ key: isEncoded ? decodeURIComponent(text.replaceAll("+", " ")) : text, size });
    } catch {
      return null;
    }
  }
  const isCut = inner(xml, "IsTruncated") === "true";
  const next = inner(xml, "NextContinuationToken");
  if (isCut && next === undefined) return null;
  return { objects, next: isCut ? next : undefined };
}

/** Returns the text of the first element of a name. */
function inner(xml: string, name: string): string | undefined {
  const start = xml.indexOf(`<${name}>`);
  const end = start < 0 ? -1 : xml.indexOf(`</${name}>`, start);
  if (end < 0) return undefined;
  const named: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return xml.slice(start + name.length + 2, end).replace(
    /&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi,
    (whole, ten, hex, word) => {
      if (word !== undefined) return named[word] ?? whole;
      const code = ten === undefined ? parseInt(hex, 16) : Number(ten);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

function invalid(path: string, why: string): RemoteError {
  return new RemoteError(`Cannot open ${quote(path)}: ${why}`, { path, code: "InvalidAnswer" });
}
