/**
 * Reads of files on HTTP servers by libcurl through the shim: converts structs to objects and statuses to errors.
 */
import { MESSAGE_BYTES, newMessage, textOf } from "./cuda.ts";
import { passEnvironment } from "./environment.ts";
import { SystemError } from "./files.ts";
import { Handle } from "./handle.ts";
import { systemErrorText } from "./status.ts";
import type { Shim } from "./symbols.ts";

/** `FST_READER_HTTP` of native/plan.h. */
export const HTTP_READER = 2;

/** `fst_net_answer` of native/fst_net.h, without that of a wrong range. */
export const ANSWER_ENCODED = 2, ANSWER_HEAD = 3, ANSWER_LONG = 4;

/** libcurl's code of an attempt without a byte for too long. */
export const TIMED_OUT = 28;

/** libcurl's codes of certificates that are not trusted, or cannot be read. */
const CERTIFICATE_ERRORS = new Set([58, 60, 77, 83, 91]);

/** libcurl, or the reason why it is not available. */
export type CurlLibrary =
  | { readonly path: string }
  | { readonly path: null; readonly reason: string };

/** The URL of a file, and the headers of every request for it. */
export interface NetAddress {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The properties of a file: `fst_net_options` in native/fst_net.h, and its validator. */
export interface NetFileOptions {
  /** Bytes of the file. */
  readonly size: number;
  /** Its strong ETag with quotes; null: unknown. */
  readonly etag: string | null;
  /** Most repetitions of a request that brings few bytes. */
  readonly retries: number;
  /** Longest time without a byte, in seconds. */
  readonly timeoutSeconds: number;
}

const encoder = new TextEncoder();

/** Opens libcurl. A machine without it is not an error. */
export async function findCurl(shim: Shim): Promise<CurlLibrary> {
  passEnvironment(shim);
  const path = newMessage(), reason = newMessage();
  const status = await shim.fst_net_find(path, reason, MESSAGE_BYTES);
  if (status === 0) return { path: textOf(path) };
  return { path: null, reason: textOf(reason) || systemErrorText(-status) };
}

/**
 * Prepares reads of a file by lanes; {@linkcode findCurl} must have succeeded. No connection is made.
 *
 * @throws {SystemError} if there is not enough memory
 */
export function openNetFile(shim: Shim, options: NetFileOptions, address: NetAddress): Handle {
  passEnvironment(shim); // certificates and proxies
  const { size, etag, retries, timeoutSeconds } = options;
  const bytes = new DataView(new ArrayBuffer(16));
  bytes.setBigUint64(0, BigInt(size), true);
  bytes.setUint32(8, Math.min(retries, 2 ** 31), true);
  bytes.setUint32(12, Math.min(Math.ceil(timeoutSeconds * 1000), 2 ** 31), true);
  const { url, headers } = encodeAddress(address);
  const file = new BigUint64Array(1);
  const length = BigInt(headers.byteLength);
  const tag = encoder.encode(`${etag ?? ""}\0`);
  const status = shim.fst_net_open(bytes.buffer, url, headers, length, tag, file);
  if (status !== 0) throw new SystemError(-status);
  return new Handle("the remote file", file[0]!, (file) => shim.fst_net_close(file));
}

/** Whether a server has refused the current address of a file: its lanes wait for {@linkcode renewAddress}. */
export function isStale(shim: Shim, file: bigint): boolean {
  return shim.fst_net_is_stale(file) === 1;
}

/**
 * Sets a new address, with which waiting lanes continue.
 *
 * @throws {SystemError} if there is not enough memory
 */
export function renewAddress(shim: Shim, file: bigint, address: NetAddress): void {
  const { url, headers } = encodeAddress(address);
  const status = shim.fst_net_renew(file, url, headers, BigInt(headers.byteLength));
  if (status !== 0) throw new SystemError(-status);
}

/** Describes a failure of a connection by its code. */
export function connectionErrorText(shim: Shim, code: number): string {
  const text = newMessage();
  shim.fst_net_error_text(code, text, MESSAGE_BYTES);
  return textOf(text) || `libcurl's error ${code}`;
}

/** Whether the code of a failed connection concerns certificates. */
export function isCertificateError(code: number): boolean {
  return CERTIFICATE_ERRORS.has(code);
}

function encodeAddress({ url, headers }: NetAddress) {
  // `Headers` rejects names and values that would begin another header.
  const lines = Array.from(new Headers({ ...headers }), ([name, value]) => {
    // libcurl sends a header without a value only if it ends with a semicolon.
    return value === "" ? `${name};\0` : `${name}: ${value}\0`;
  });
  return { url: encoder.encode(`${url}\0`), headers: encoder.encode(lines.join("")) };
}
