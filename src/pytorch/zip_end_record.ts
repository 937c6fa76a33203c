/** The end of a zip archive, which says where its directory lies. */
import type { ByteReader } from "./byte_reader.ts";
import { checkpointError, limitError } from "./checkpoint_error.ts";

/** Where the central directory of an archive lies. */
export interface DirectoryLocation {
  /** The file offset of its first byte. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly length: number;
  /** How many entries it has. */
  readonly entries: number;
}

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
/** The longest comment; PyTorch looks for the end record so far from the end of the file, whatever is there. */
const MAX_TAIL_BYTES = 0xffff;
const LOCATOR_SIGNATURE = 0x07064b50;
const LOCATOR_BYTES = 20;
const END64_SIGNATURE = 0x06064b50;
const END64_BYTES = 56;

/**
 * The most that an entry of the directory takes on average, so that few entries cannot make a long directory.
 */
const MAX_MEAN_ENTRY_BYTES = 512;

/**
 * Finds the central directory.
 *
 * Its end record is the last one in the file, as for other readers, with at most 64 KiB behind it: a comment, or
 * something that was added to the file. The directory must end where the end records begin, and no other end record
 * may be one of this file too: else readers could take one file for two different archives.
 *
 * @throws {SafeTensorsError} "InvalidCheckpoint" where the end of an archive is missing or does not fit the
 * file, "UnsupportedCheckpoint" for archives in several parts, "LimitExceeded" with more entries than `maxEntries`
 */
export async function findDirectory(reader: ByteReader, maxEntries: number): Promise<DirectoryLocation> {
  const { path, size } = reader;
  const tailStart = Math.max(0, size - LOCATOR_BYTES - END_BYTES - MAX_TAIL_BYTES);
  const tail = await reader.read(tailStart, size - tailStart);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  const at = findEnd(view, view.byteLength);
  if (at < 0) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `it starts as a zip archive but has no end of one: it is cut short, or more than ${MAX_TAIL_BYTES} bytes ` +
        `were added to it`,
    );
  }
  for (let other = at; (other = findEnd(view, other)) >= 0;) {
    if (!mayBeEnd(view, other, tailStart)) continue;
    throw checkpointError("InvalidCheckpoint", path, "its zip archive has two end records");
  }
  const parts = [view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
  const counts = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
  let location = {
    entries: counts[1]!,
    length: view.getUint32(at + 12, true),
    offset: view.getUint32(at + 16, true),
  };
  let end = tailStart + at;
  const locatorAt = at - LOCATOR_BYTES;
  if (locatorAt >= 0 && view.getUint32(locatorAt, true) === LOCATOR_SIGNATURE) {
    parts.push(view.getUint32(locatorAt + 4, true), view.getUint32(locatorAt + 16, true) - 1);
    end = readU64(view, locatorAt + 8);
    const record = await readEnd64(reader, end, tailStart + locatorAt);
    parts.push(record.getUint32(16, true), record.getUint32(20, true));
    const large = {
      entries: readU64(record, 32),
      length: readU64(record, 40),
      offset: readU64(record, 48),
    };
    counts[0] = readU64(record, 24);
    counts[1] = large.entries;
    checkAgreement(location, large, path);
    location = large;
  }
  if (parts.some((part) => part !== 0 && part !== 0xffff) || counts[0] !== counts[1]) {
    throw checkpointError("UnsupportedCheckpoint", path, "it is one part of a zip archive in several parts");
  }
  if (location.entries > maxEntries) {
    throw limitError(
      path,
      `its zip archive has ${location.entries} entries: ${maxEntries} are allowed`,
      "maxEntries",
    );
  }
  if (location.offset + location.length !== end) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `its zip directory of ${location.length} bytes at offset ${location.offset} does not end at ${end}, where ` +
        `its end record stands`,
    );
  }
  if (location.length > location.entries * MAX_MEAN_ENTRY_BYTES) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `its zip directory takes ${location.length} bytes for ${location.entries} entries`,
    );
  }
  return location;
}

/** The last position before `end` of the signature of an end record; -1 without one. */
function findEnd(view: DataView, end: number): number {
  for (let at = Math.min(end - 1, view.byteLength - END_BYTES); at >= 0; at--) {
    if (view.getUint32(at, true) === END_SIGNATURE) return at;
  }
  return -1;
}

/** Whether a reader could take this for the end record: a directory, or a zip64 locator, ends there. */
function mayBeEnd(view: DataView, at: number, tailStart: number): boolean {
  const locatorAt = at - LOCATOR_BYTES;
  return view.getUint32(at + 12, true) + view.getUint32(at + 16, true) === tailStart + at ||
    locatorAt >= 0 && view.getUint32(locatorAt, true) === LOCATOR_SIGNATURE;
}

async function readEnd64(reader: ByteReader, offset: number, locatorOffset: number): Promise<DataView> {
  if (offset + END64_BYTES === locatorOffset) {
    const bytes = await reader.read(offset, END64_BYTES);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (view.getUint32(0, true) === END64_SIGNATURE && readU64(view, 4) === END64_BYTES - 12) return view;
  }
  throw checkpointError(
    "InvalidCheckpoint",
    reader.path,
    `there is no zip64 end record at offset ${offset}, where its locator points`,
  );
}

/** The small record's fields must be full, or say the same. */
function checkAgreement(small: DirectoryLocation, large: DirectoryLocation, path: string): void {
  const agrees = (field: keyof DirectoryLocation, full: number) =>
    small[field] === full || small[field] === large[field];
  if (agrees("entries", 0xffff) && agrees("length", 0xffffffff) && agrees("offset", 0xffffffff)) return;
  throw checkpointError("InvalidCheckpoint", path, "the two end records of its zip archive differ");
}

/** The little-endian u64 at `at`; above 2^53 rounded, which no offset or size of a real file is. */
export function readU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}
