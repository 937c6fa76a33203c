/**
 * The interface of a file on a server, and of the ways to read it: through fetch, through libcurl, through the cache.
 */
import type { CacheFile } from "../cache/cache_file.ts";
import type { SourceFile } from "../source.ts";

/** The URL of a remote file's bytes, and the headers that every request for them needs. */
export interface RemoteAddress {
  /** The URL; it can carry a signature, so that it never appears in messages. */
  readonly url: string;
  /** Headers such as `authorization`; they can be secret, and are for the host of `url` only. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Limits of the requests for a file. */
export interface RemoteLimits {
  /** Most repetitions of a request that made no progress. */
  readonly retries: number;
  /** Seconds without a byte after which a request counts as stalled. */
  readonly timeoutSeconds: number;
}

/** A remote file that has been opened: its size and validators are fixed. */
export interface RemoteFile extends SourceFile {
  readonly size: number;
  /** The strong ETag, sent as `If-Match` with every range; null if there is none, or if the URL names the content. */
  readonly etag: string | null;
  /** SHA-256 of the file in hexadecimal, if the server says it. */
  readonly sha256: string | null;
  /** Whether the server answers range requests; without them only {@linkcode SourceFile.read} works. */
  readonly ranges: boolean;
  /** Limits of the requests. */
  readonly limits: RemoteLimits;
  /** The file of the cache through which this one is read; missing without a cache. */
  readonly cache?: CacheFile;
  /**
   * Returns the address for range requests.
   *
   * @param stale an address that was answered with 401, 403 or a redirect: it is resolved anew, once for all callers
   * @throws {RemoteError} if it cannot be resolved anew, or names another version of the file now
   */
  address(stale?: RemoteAddress): Promise<RemoteAddress>;
}
