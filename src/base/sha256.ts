/** Returns the SHA-256 in hexadecimal digits. The caller may change the bytes after this has returned. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
