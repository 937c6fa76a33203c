/**
 * JSON messages over a connection, each after its length.
 */
import type { Json } from "./process_group.ts";

/** Longest message, in bytes: values to gather are small, and a stranger's bytes are no length. */
const MAX_BYTES = 16 * 2 ** 20;
const encoder = new TextEncoder();

/** Writes a message in one piece. */
export async function writeFrame(connection: Deno.Conn, message: Json): Promise<void> {
  const text = encoder.encode(JSON.stringify(message));
  const frame = new Uint8Array(4 + text.byteLength);
  new DataView(frame.buffer).setUint32(0, text.byteLength);
  frame.set(text, 4);
  for (let sent = 0; sent < frame.byteLength;) sent += await connection.write(frame.subarray(sent));
}

/** Reads one message, of at most so many bytes; null at the end of the connection. */
export async function readFrame(connection: Deno.Conn, maxBytes = MAX_BYTES): Promise<Json | null> {
  const head = await readExactly(connection, 4);
  if (head === null) return null;
  const length = new DataView(head.buffer).getUint32(0);
  if (length > maxBytes) throw new RangeError(`A message of ${length} bytes is too long`);
  const text = await readExactly(connection, length);
  return text === null ? null : JSON.parse(new TextDecoder().decode(text)) as Json;
}

async function readExactly(connection: Deno.Conn, length: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const bytes = new Uint8Array(length);
  for (let got = 0; got < length;) {
    const count = await connection.read(bytes.subarray(got));
    if (count === null) return null;
    got += count;
  }
  return bytes;
}
