/**
 * Where the entries of a zip archive lie, stored as they are or compressed with deflate.
 *
 * Zip says most things twice: in the central directory at the end, and in a header before each entry. Readers
 * that look at one place only can be told different things about one file, so both are read and must agree,
 * and anything a checkpoint does not need is refused. Sizes and checksums come from the central directory,
 * since PyTorch leaves them out of the headers.
 */
import { sortInSteps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import type { ByteReader } from "./byte_reader.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import { checkpointError } from "./checkpoint_error.ts";
import { checkpointLimits } from "./limits.ts";
import { type FileRange, readScattered } from "./scattered_reads.ts";
import { findDirectory, readU64 } from "./zip_end_record.ts";

/** An entry of a zip archive. */
export interface ZipEntry {
  /** Its name, with "/" between folders. */
  readonly name: string;
  /** The file offset of its first byte, or of the first compressed one. */
  readonly dataStart: number;
  /** Its length in bytes. */
  readonly size: number;
  /** Its length as it lies in the file. */
  readonly packedSize: number;
  /** Whether it is compressed with deflate. */
  readonly deflated: boolean;
  /** The CRC-32 of its bytes as the directory gives it; not checked here. */
  readonly crc32: number;
}

/** The entries of an archive. */
export interface ZipDirectory {
  /** By name, in the order of the central directory. */
  readonly entries: ReadonlyMap<string, ZipEntry>;
}

/** How {@linkcode readZipDirectory} reads. */
export interface ZipDirectoryOptions {
  /** The most entries; default as in `CheckpointLimits`. */
  maxEntries?: number;
  /**
   * Looks at all names before the entries are judged, and may throw: an archive that is known by its names is
   * better refused for what it is than for how it is packed.
   */
  inspect?: (names: ReadonlySet<string>) => void;
}

const CENTRAL_SIGNATURE = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const ZIP64_EXTRA = 1;
/** A 32-bit field that stands for one in the zip64 extra. */
const IN_ZIP64 = 0xffffffff;

const FLAG_ENCRYPTED = 1 << 0;
/** How hard the compressor tried, which changes nothing. */
const FLAGS_EFFORT = 1 << 1 | 1 << 2;
const FLAG_SIZES_FOLLOW = 1 << 3;
const FLAG_UTF8 = 1 << 11;

/** Entries between two looks at the clock. */
const TURN_STEPS = 1024;

const STORED = 0;
const DEFLATED = 8;
/** Deflate packs at most this many bytes into one. */
const MAX_DEFLATE_RATIO = 1032;

/** What the central directory says of an entry. */
interface CentralEntry {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly flags: number;
  readonly method: number;
  readonly crc32: number;
  readonly packedSize: number;
  readonly size: number;
  readonly disk: number;
  readonly localOffset: number;
}

/**
 * Reads the directory of a zip archive and the header of each entry, and checks one against the other.
 *
 * @param reader the archive
 * @param options see {@linkcode ZipDirectoryOptions}
 * @returns the entries; their ranges lie in the file and do not overlap
 * @throws {SafeTensorsError} "UnsupportedCheckpoint" for entries that are encrypted or compressed
 * otherwise and archives in several parts, "InvalidCheckpoint" for everything that does not hold together
 */
export async function readZipDirectory(
  reader: ByteReader,
  options: ZipDirectoryOptions = {},
): Promise<ZipDirectory> {
  const { path } = reader;
  const { maxEntries } = checkpointLimits(
    options.maxEntries === undefined ? {} : { maxEntries: options.maxEntries },
  );
  const directory = await findDirectory(reader, maxEntries);
  const bytes = await reader.read(directory.offset, directory.length);
  const { central, names } = await readCentral(bytes, directory.entries, path);
  options.inspect?.(names);
  const turn = new Turn();
  for (const [i, entry] of central.entries()) {
    if (i % TURN_STEPS === 0) await turn.pause();
    checkEntry(entry, path);
  }

  const starts = await readLocalHeaders(reader, central, directory.offset);
  const entries = new Map<string, ZipEntry>();
  for (const [i, { name, size, packedSize, method, crc32 }] of central.entries()) {
    if (i % TURN_STEPS === 0) await turn.pause();
    entries.set(name, {
      name,
      dataStart: starts[i]!,
      size,
      packedSize,
      deflated: method === DEFLATED,
      crc32,
    });
  }
  return { entries };
}

async function readCentral(
  bytes: Uint8Array,
  count: number,
  path: string,
): Promise<{ central: CentralEntry[]; names: ReadonlySet<string> }> {
  const turn = new Turn();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const entries: CentralEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (i % TURN_STEPS === TURN_STEPS - 1) await turn.pause();
    const nameAt = at + CENTRAL_BYTES;
    if (nameAt > bytes.length || view.getUint32(at, true) !== CENTRAL_SIGNATURE) {
      throw invalid(path, `its zip directory does not hold the ${count} entries it counts, only ${i}`);
    }
    const nameLength = view.getUint16(at + 28, true);
    const extraAt = nameAt + nameLength;
    const extraEnd = extraAt + view.getUint16(at + 30, true);
    const end = extraEnd + view.getUint16(at + 32, true);
    if (end > bytes.length) throw invalid(path, `entry ${i} of its zip directory runs beyond the directory`);
    const nameBytes = bytes.subarray(nameAt, extraAt);
    const name = decodeName(utf8, nameBytes, i, path);
    if (names.has(name)) throw invalid(path, `its zip directory has two entries named ${quote(name)}`);
    names.add(name);
    const sizes = readSizes(view, at, extraAt, extraEnd);
    if (sizes === undefined) {
      throw invalid(path, `the zip64 field of entry ${quote(name)} does not hold its sizes`);
    }
    entries.push({
      name,
      nameBytes,
      flags: view.getUint16(at + 8, true),
      method: view.getUint16(at + 10, true),
      crc32: view.getUint32(at + 16, true),
      ...sizes,
    });
    at = end;
  }
  if (at !== bytes.length) {
    throw invalid(path, `its zip directory is ${bytes.length} bytes long, its ${count} entries take ${at}`);
  }
  return { central: entries, names };
}

function decodeName(utf8: TextDecoder, bytes: Uint8Array, index: number, path: string): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw invalid(path, `the name of entry ${index} of its zip directory is not UTF-8`);
  }
}

type Sizes = Pick<CentralEntry, "size" | "packedSize" | "localOffset" | "disk">;

/** The sizes of the central entry at `at`, from its zip64 extra where its own fields say so. */
function readSizes(view: DataView, at: number, extraAt: number, extraEnd: number): Sizes | undefined {
  let packedSize = view.getUint32(at + 20, true);
  let size = view.getUint32(at + 24, true);
  let localOffset = view.getUint32(at + 42, true);
  const disk = view.getUint16(at + 34, true);
  if (packedSize === IN_ZIP64 || size === IN_ZIP64 || localOffset === IN_ZIP64) {
    const [fieldAt, fieldEnd] = findExtra(view, extraAt, extraEnd);
    // The extra holds only those whose own field is full, in this order.
    let next = fieldAt;
    const take = () => next + 8 <= fieldEnd ? readU64(view, (next += 8) - 8) : NaN;
    if (size === IN_ZIP64) size = take();
    if (packedSize === IN_ZIP64) packedSize = take();
    if (localOffset === IN_ZIP64) localOffset = take();
    if (![size, packedSize, localOffset].every(Number.isSafeInteger)) return undefined;
  }
  return { size, packedSize, localOffset, disk };
}

/** The range of the zip64 extra field's content; empty where there is none. */
function findExtra(view: DataView, at: number, end: number): [number, number] {
  while (at + 4 <= end) {
    const fieldEnd = at + 4 + view.getUint16(at + 2, true);
    if (view.getUint16(at, true) === ZIP64_EXTRA) return [at + 4, Math.min(fieldEnd, end)];
    at = fieldEnd;
  }
  return [end, end];
}

/** An entry in a message. Not made before there is one: an archive has very many entries. */
function entryNamed(name: string): string {
  return `entry ${quote(name)}`;
}

function checkEntry({ name, flags, method, disk, size, packedSize }: CentralEntry, path: string): void {
  checkPacking(flags, method, name, path);
  if (disk !== 0) {
    throw unsupported(path, `${entryNamed(name)} lies in another part of a zip archive in several parts`);
  }
  if (method === STORED && packedSize !== size) {
    throw invalid(path, `${entryNamed(name)} is stored as ${packedSize} bytes but claims ${size}`);
  }
  if (method === DEFLATED && size > packedSize * MAX_DEFLATE_RATIO) {
    throw invalid(
      path,
      `${entryNamed(name)} is compressed to ${packedSize} bytes but claims ${size}, which is impossible`,
    );
  }
}

/** Refuses what makes the bytes in the file something else than an entry's, stored or deflated. */
function checkPacking(flags: number, method: number, name: string, path: string): void {
  if (flags & FLAG_ENCRYPTED) {
    throw unsupported(path, `${entryNamed(name)} is encrypted: unpack it with its password first`);
  }
  if (method !== STORED && method !== DEFLATED) {
    throw unsupported(
      path,
      `${
        entryNamed(name)
      } is compressed with method ${method}, only deflate can be read: unpack the archive and pack it ` +
        `again without compression (zip -0)`,
    );
  }
  const others = flags & ~(FLAG_SIZES_FOLLOW | FLAG_UTF8 | (method === DEFLATED ? FLAGS_EFFORT : 0));
  if (others !== 0) {
    throw unsupported(path, `${entryNamed(name)} has unknown zip flags 0x${others.toString(16)}`);
  }
}

/** Checks each entry's local header and gives the start of its data, in the order of `central`. */
async function readLocalHeaders(
  reader: ByteReader,
  central: readonly CentralEntry[],
  directoryStart: number,
): Promise<Float64Array> {
  const { path } = reader;
  const turn = new Turn();
  const inFileOrder = await finishInTurns(
    sortInSteps([...central.entries()], ([, a], [, b]) => a.localOffset - b.localOffset),
  );
  /** Where the entry that is k-th in the file has to end: before the next one, the last before the directory. */
  const limit = (k: number) => inFileOrder[k + 1]?.[1].localOffset ?? directoryStart;
  const ranges: FileRange[] = [];
  for (const [k, [, { name, localOffset, nameBytes }]] of inFileOrder.entries()) {
    if (k % TURN_STEPS === 0) await turn.pause();
    const length = LOCAL_BYTES + nameBytes.length;
    if (localOffset + length > limit(k)) throw doesNotFit(name, localOffset + length, limit(k), path);
    ranges.push({ offset: localOffset, length });
  }

  const starts = new Float64Array(central.length);
  await readScattered(reader, ranges, (header, k) => {
    const [index, entry] = inFileOrder[k]!;
    const length = checkLocalHeader(header, entry, path);
    const start = entry.localOffset + length;
    const end = start + entry.packedSize;
    if (end > limit(k)) throw doesNotFit(entry.name, end, limit(k), path);
    starts[index] = start;
  });
  return starts;
}

/** Compares a local header and its name with the central entry; returns the header's whole length. */
function checkLocalHeader(header: Uint8Array, entry: CentralEntry, path: string): number {
  const { name } = entry;
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  if (view.getUint32(0, true) !== LOCAL_SIGNATURE) {
    throw invalid(path, `there is no header of ${entryNamed(name)} at offset ${entry.localOffset}`);
  }
  const flags = view.getUint16(6, true);
  const method = view.getUint16(8, true);
  checkPacking(flags, method, name, path);
  if (method !== entry.method) {
    throw invalid(
      path,
      `the header of ${entryNamed(name)} and the zip directory differ in whether it is compressed`,
    );
  }
  const nameLength = view.getUint16(26, true);
  const sameName = nameLength === entry.nameBytes.length &&
    entry.nameBytes.every((byte, i) => byte === header[LOCAL_BYTES + i]);
  if (!sameName) {
    throw invalid(path, `the header at offset ${entry.localOffset} is not that of ${entryNamed(name)}`);
  }

  // Where sizes follow the data, the header may hold zeros instead; the central directory counts.
  const open = (flags & FLAG_SIZES_FOLLOW) !== 0;
  const agrees = (at: number, expected: number, mayBeZip64: boolean) => {
    const value = view.getUint32(at, true);
    return value === expected || open && value === 0 || mayBeZip64 && value === IN_ZIP64;
  };
  if (
    !agrees(14, entry.crc32, false) || !agrees(18, entry.packedSize, true) || !agrees(22, entry.size, true)
  ) {
    throw invalid(
      path,
      `the header of ${entryNamed(name)} and the zip directory differ in its size or checksum`,
    );
  }
  return LOCAL_BYTES + nameLength + view.getUint16(28, true);
}

function doesNotFit(name: string, end: number, limit: number, path: string): Error {
  return invalid(
    path,
    `entry ${quote(name)} reaches to offset ${end}, the next part of the archive starts at ${limit}`,
  );
}

function invalid(path: string, detail: string): Error {
  return checkpointError("InvalidCheckpoint", path, detail);
}

function unsupported(path: string, detail: string): Error {
  return checkpointError("UnsupportedCheckpoint", path, detail);
}
