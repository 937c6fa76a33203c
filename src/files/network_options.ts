/**
 * The options for files on servers: their meaning, defaults and limits.
 */
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkKeys,
  describeValue,
  isRecord,
  keysOf,
} from "../base/check.ts";
import type { RemoteLimits } from "./http/remote_file.ts";

/** Keys for a service of the S3 interface. */
export interface S3Credentials {
  /** The id of the key. */
  accessKeyId: string;
  /** The key. */
  secretAccessKey: string;
  /** The token of a session, for temporary keys. */
  sessionToken?: string;
}

/** Options for models on the Hub of Hugging Face. */
export interface HubOptions {
  /**
   * The token; false sends none. Default: `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or the file that `huggingface-cli login`
   * has written, unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
   */
  token?: string | false;
  /** The URL of the Hub. Default: `HF_ENDPOINT`, else `https://huggingface.co`. */
  endpoint?: string;
  /** Sends no request. Default: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`, else false. */
  offline?: boolean;
}

/** Options for files in services of the S3 interface. */
export interface S3Options {
  /** The URL of the service. Default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or the profile's; else that of AWS. */
  endpoint?: string;
  /** The region. Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, or the profile's; else `us-east-1`. */
  region?: string;
  /** The profile in the files of AWS. Default: `AWS_PROFILE`, else `default`. */
  profile?: string;
  /** Sends no signature. Default: false if keys are found. */
  anonymous?: boolean;
  /** Returns the keys; called again when they have expired. Default: the keys of the environment or the profile. */
  credentials?: () => S3Credentials | Promise<S3Credentials>;
}

/** Options for files on servers. */
export interface NetworkOptions {
  /**
   * Headers for every request to the hosts of `https://` and `http://` names, such as `authorization`. They are not sent
   * to other hosts, to which a server redirects.
   */
  headers?: Readonly<Record<string, string>>;
  /** Most repetitions of a request that brings no bytes. Default 5. */
  retries?: number;
  /** Seconds without a byte after which a request is repeated. Default 30; for the Hub `HF_HUB_DOWNLOAD_TIMEOUT`. */
  timeoutSeconds?: number;
  /** Options for `hf://` names. */
  hub?: HubOptions;
  /** Options for `s3://` names. */
  s3?: S3Options;
}

/** Checked {@linkcode NetworkOptions}. */
export interface CheckedNetworkOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly retries: number;
  /** Undefined if it is not set: the Hub has another default. */
  readonly timeoutSeconds: number | undefined;
  readonly hub: Readonly<HubOptions>;
  readonly s3: Readonly<S3Options>;
}

/** The seconds of a stall, by default. */
const TIMEOUT_SECONDS = 30;

/** Returns the limits of requests; `seconds` is the default of a service. */
export function limitsOf(options: CheckedNetworkOptions, seconds: number = TIMEOUT_SECONDS): RemoteLimits {
  return { retries: options.retries, timeoutSeconds: options.timeoutSeconds ?? seconds };
}

/**
 * Checks the option `network`.
 *
 * @throws {TypeError} if a key is unknown or a value has the wrong type
 * @throws {RangeError} if a number is outside its limits
 */
export function checkNetwork(options: NetworkOptions = {}): CheckedNetworkOptions {
  checkKeys(
    "network",
    options,
    keysOf<NetworkOptions>({ headers: true, retries: true, timeoutSeconds: true, hub: true, s3: true }),
  );
  const headers = options.headers ?? {}, hub = options.hub ?? {}, s3 = options.s3 ?? {};
  const { retries, timeoutSeconds } = options;
  checkKeys("network.hub", hub, keysOf<HubOptions>({ token: true, endpoint: true, offline: true }));
  if (hub.token !== undefined && hub.token !== false && typeof hub.token !== "string") {
    throw new TypeError("network.hub.token must be a string or false");
  }
  checkUrl("network.hub.endpoint", hub.endpoint);
  checkBoolean("network.hub.offline", hub.offline);
  const keys = { endpoint: true, region: true, profile: true, anonymous: true, credentials: true } as const;
  checkKeys("network.s3", s3, keysOf<S3Options>(keys));
  checkUrl("network.s3.endpoint", s3.endpoint);
  for (const name of ["region", "profile"] as const) checkText(`network.s3.${name}`, s3[name]);
  checkBoolean("network.s3.anonymous", s3.anonymous);
  checkFunction("network.s3.credentials", s3.credentials);
  return {
    headers: checkHeaders("network.headers", headers),
    retries: checkInteger("network.retries", retries, { byDefault: 5, least: 0, most: 100 }),
    timeoutSeconds: timeoutSeconds === undefined ? undefined : checkSeconds(timeoutSeconds),
    hub,
    s3,
  };
}

/**
 * Checks headers of a user; the names become lower case.
 *
 * @param what names them in messages, which do not have the values: they can be secret
 * @throws {TypeError} if they are not names and values that HTTP allows, or the package sets one itself
 */
export function checkHeaders(what: string, headers: unknown): Record<string, string> {
  if (!isRecord(headers)) {
    throw new TypeError(`${what} must be an object of strings, got ${describeValue(headers)}`);
  }
  const checked: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== "string") throw new TypeError(`${what} must be an object of strings`);
    try {
      new Headers([[name, value]]);
    } catch { // its message has the value
      throw new TypeError(`${what} has a name or a value that HTTP does not allow: ${describeValue(name)}`);
    }
    if (/^(?:accept-encoding|connection|content-length|host|if-match|if-range|range)$/i.test(name)) {
      throw new TypeError(`${what} cannot have ${describeValue(name)}, which the package sets`);
    }
    checked[name.toLowerCase()] = value;
  }
  return checked;
}

function checkText(name: string, value: unknown): void {
  if (value !== undefined && (typeof value !== "string" || value === "")) {
    throw new TypeError(`${name} must be a string with at least one character`);
  }
}

function checkUrl(name: string, value: unknown): void {
  checkText(name, value);
  if (value === undefined || isServiceUrl(value as string)) return;
  throw new TypeError(`${name} must be an https: or http: URL without user and query`);
}

/** Whether a text is the URL of a service: without user, query and fragment. */
export function isServiceUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, search, hash } = new URL(text);
  return /^https?:$/.test(protocol) && username + password + search + hash === "";
}

function checkSeconds(value: unknown): number {
  if (typeof value !== "number") {
    throw new TypeError(`network.timeoutSeconds must be a number, got ${describeValue(value)}`);
  }
  if (value > 0 && value <= 3600) return value;
  throw new RangeError(`network.timeoutSeconds must be more than 0 and at most 3600, got ${value}`);
}

/** The settings of a cache. */
export interface CacheOptions {
  /** The folder. Default: that of the environment. */
  folder?: string;
  /** Whether bytes go to the cache; if not, it is only read. Default true. */
  fill?: boolean;
}

/** Whether files on servers are kept in a cache; its folder; or its settings. */
export type CacheOption = boolean | string | CacheOptions;

/**
 * Checks the option `cache`.
 *
 * @throws {TypeError} if it has another type, or a key is unknown
 */
export function checkCache(cache: unknown): CacheOption | undefined {
  if (cache === undefined || typeof cache === "boolean") return cache;
  if (typeof cache === "string" && cache !== "") return cache;
  if (!isRecord(cache)) {
    throw new TypeError(`cache must be true, false, a folder or an object, got ${describeValue(cache)}`);
  }
  checkKeys("cache", cache, keysOf<CacheOptions>({ folder: true, fill: true }));
  const { folder, fill } = cache;
  checkBoolean("cache.fill", fill);
  if (folder !== undefined && (typeof folder !== "string" || folder === "")) {
    throw new TypeError(`cache.folder must be the path of a folder, got ${describeValue(folder)}`);
  }
  return cache;
}
