/** Compressed entries of a zip archive, unpacked in bounded memory. */
import { Turn } from "../base/turn.ts";
import type { ByteReader } from "./byte_reader.ts";
import { checkpointError } from "./checkpoint_error.ts";
import type { PackedBytes } from "./container.ts";
import { crc32 } from "node:zlib";

/** Compressed bytes of one read. */
const READ_BYTES = 2 ** 20;

/**
 * Unpacks `packed`. Never more than `packed.size` bytes are held, whatever the compressed bytes say.
 *
 * @param what what it is, for messages
 * @throws {SafeTensorsError} "InvalidCheckpoint" if the compressed bytes are damaged, or make more or fewer bytes than
 * the directory says, or bytes with another checksum
 * @throws {ReadError} if the file cannot be read
 */
export async function inflate(
  reader: Pick<ByteReader, "path" | "read">,
  packed: PackedBytes,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const damaged = (detail: string) => checkpointError("InvalidCheckpoint", reader.path, `${what} ${detail}`);
  const bytes = new Uint8Array(packed.size);
  let length = 0;
  let tooLong = false;
  let readFailure: { error: unknown } | undefined;
  let at = 0;
  const compressed = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const count = Math.min(READ_BYTES, packed.packedSize - at);
      if (count === 0) return controller.close();
      try {
        controller.enqueue(new Uint8Array(await reader.read(packed.offset + at, count)));
      } catch (error) {
        readFailure = { error };
        throw error;
      }
      at += count;
    },
  });
  try {
    for await (const part of compressed.pipeThrough(new DecompressionStream("deflate-raw"))) {
      tooLong = length + part.length > bytes.length;
      if (tooLong) break;
      bytes.set(part, length);
      length += part.length;
    }
  } catch (cause) {
    if (readFailure) throw readFailure.error;
    throw damaged(`is damaged: ${cause instanceof Error ? cause.message : cause}`);
  }
  if (tooLong || length !== bytes.length) {
    throw damaged(`does not unpack to the ${packed.size} bytes that the zip directory says`);
  }
  await checkCrc(bytes, packed.crc32, what, reader.path);
  return bytes;
}

/** Bytes that are summed up between two looks at the clock. */
const CRC_BYTES = 2 ** 20;

/** @throws {SafeTensorsError} "InvalidCheckpoint" unless the bytes have this CRC-32, or none is known */
export async function checkCrc(
  bytes: Uint8Array,
  expected: number | undefined,
  what: string,
  path: string,
): Promise<void> {
  if (expected === undefined) return;
  const turn = new Turn();
  let found = 0;
  for (let at = 0; at < bytes.length; at += CRC_BYTES) {
    if (at > 0) await turn.pause();
    found = crc32(bytes.subarray(at, at + CRC_BYTES), found);
  }
  if (found === expected) return;
  const hex = (crc: number) => crc.toString(16).padStart(8, "0");
  throw checkpointError(
    "InvalidCheckpoint",
    path,
    `${what} is damaged: its CRC-32 is ${hex(found)}, ${hex(expected)} expected`,
  );
}
