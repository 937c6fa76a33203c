/**
 * Presigned URLs by version 4 of AWS' signatures: the query of a URL has the signature, so that any client can use it for
 * every range of the object.
 */
import type { S3Credentials } from "../network_options.ts";

/** The scope of a signature. */
export interface SigningScope {
  readonly credentials: S3Credentials;
  readonly region: string;
  readonly now: Date;
  readonly expiresSeconds: number;
}

/** Returns the URL of a GET request with its signature. `url` must have an encoded path ({@linkcode encodePath}). */
export async function presign(
  url: URL,
  { credentials, region, now, expiresSeconds }: SigningScope,
): Promise<URL> {
  const time = now.toISOString().replace(/[-:]|\.\d{3}/g, "");
  const scope = `${time.slice(0, 8)}/${region}/s3/aws4_request`;
  const query = [
    ...url.searchParams,
    ["X-Amz-Algorithm", "AWS4-HMAC-SHA256"],
    ["X-Amz-Credential", `${credentials.accessKeyId}/${scope}`],
    ["X-Amz-Date", time],
    ["X-Amz-Expires", String(expiresSeconds)],
    ...credentials.sessionToken === undefined ? [] : [["X-Amz-Security-Token", credentials.sessionToken]],
    ["X-Amz-SignedHeaders", "host"],
  ].map(([name, value]) => `${encode(name!)}=${encode(value!)}`).sort().join("&");
  const request = ["GET", url.pathname, query, `host:${url.host}`, "", "host", "UNSIGNED-PAYLOAD"].join("\n");
  const text = ["AWS4-HMAC-SHA256", time, scope, hex(await crypto.subtle.digest("SHA-256", bytes(request)))]
    .join("\n");
  let key: BufferSource = bytes(`AWS4${credentials.secretAccessKey}`);
  for (const part of scope.split("/")) key = await hmac(key, part);
  const signed = new URL(url);
  signed.search = `?${query}&X-Amz-Signature=${hex(await hmac(key, text))}`;
  return signed;
}

/** Encodes the path of an object as signatures need it: everything except letters, digits and `-._~/`. */
export function encodePath(path: string): string {
  return path.split("/").map(encode).join("/");
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

async function hmac(key: BufferSource, text: string): Promise<ArrayBuffer> {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
  ]);
  return await crypto.subtle.sign("HMAC", imported, bytes(text));
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

function hex(buffer: ArrayBuffer): string {
  return new Uint8Array(buffer).toHex();
}
