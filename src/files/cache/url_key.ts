/**
 * The key of a file on a server in the cache: its URL without secrets, and the version that the server names.
 */
import { sha256 } from "../../base/sha256.ts";

/** Parameters of signed URLs: they differ from call to call, and must not be written to disk. */
const SIGNATURE =
  /^(x-(amz|goog|oss|ms|cos)-.*|awsaccesskeyid|googleaccessid|ossaccesskeyid|signature|sig|policy|key-pair-id|expires|se|sp|spr|sr|st|sv|skoid|sktid|skt|ske|sks|skv|token|access_token|auth|authorization|api[-_]?key|password|secret)$/i;

/** A version of a file on a server. */
export interface UrlVersion {
  /** The URL without user, password, signature and fragment. */
  readonly url: string;
  /** The strong ETag. */
  readonly etag: string;
  /** Bytes. */
  readonly size: number;
}

/** Returns a URL without user, password, fragment and the parameters that sign it. */
export function withoutSecrets(text: string): string {
  const url = new URL(text);
  url.username = "";
  url.password = "";
  url.hash = "";
  for (const name of [...url.searchParams.keys()]) if (SIGNATURE.test(name)) url.searchParams.delete(name);
  return url.href;
}

/** Returns the key of a version: 64 hexadecimal digits. */
export function urlKey({ url, etag, size }: UrlVersion): Promise<string> {
  return sha256(new TextEncoder().encode(`${url}\n${etag}\n${size}`));
}
