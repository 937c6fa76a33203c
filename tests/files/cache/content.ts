/**
 * A file whose bytes follow from their offsets.
 */
import { createHash } from "node:crypto";

/** The bytes of the file from `start` on. */
export function contentOf(start: number, stop: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(stop - start);
  for (let at = 0; at < bytes.length; at++) {
    const offset = start + at;
    bytes[at] = (offset ^ (offset >>> 8) * 31 ^ (offset >>> 16) * 17) & 0xff;
  }
  return bytes;
}

/** Returns the SHA-256 of bytes in hexadecimal digits. */
export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
