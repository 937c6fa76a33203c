/** Reads zip archives: their end records, their directories, and the checkpoints in them. */
import { sortInSteps, STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import { type ByteReader, type FileRange, readScattered } from "./bytes.ts";
import {
  checkpointError,
  type CheckpointLimits,
  checkpointLimits,
  expansionLimit,
  limitError,
} from "./errors.ts";
import {
  checkCrc,
  collectStorages,
  type Container,
  inflate,
  type PackedBytes,
  type StoragePlace,
  type StorageTable,
} from "./storages.ts";
import { unpickle } from "./unpickler.ts";

/** The place of an archive's central directory. */
interface DirectoryLocation {
  /** The file offset of its first byte. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly length: number;
  /** The number of entries. */
  readonly entries: number;
}

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
/** The longest comment; PyTorch looks for the end record this far from the end of the file, for any contents. */
const MAX_TAIL_BYTES = 0xffff;
const LOCATOR_SIGNATURE = 0x07064b50;
const LOCATOR_BYTES = 20;
const END64_SIGNATURE = 0x06064b50;
const END64_BYTES = 56;

/**
 * The most bytes of a directory entry on average, so that few entries cannot make a long directory.
 */
const MAX_MEAN_ENTRY_BYTES = 512;

/**
 * Finds the central directory.
 *
 * The end record is the last one in the file, as for other readers, with at most 64 KiB after it: a comment or
 * added data. The directory must end at the end records, and another end record must not be valid for this file
 * too: otherwise readers could see two different archives in one file.
 *
 * @throws {SafeTensorsError} "InvalidCheckpoint" if the end of an archive is missing or does not fit the
 * file, "UnsupportedCheckpoint" for archives in several parts, "LimitExceeded" with more entries than `maxEntries`
 */
async function findDirectory(reader: ByteReader, maxEntries: number): Promise<DirectoryLocation> {
  const { path, size } = reader;
  const tailStart = Math.max(0, size - LOCATOR_BYTES - END_BYTES - MAX_TAIL_BYTES);
  const tail = await reader.read(tailStart, size - tailStart);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  const at = findEnd(view, view.byteLength);
  if (at < 0) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `it starts as a zip archive but has no end record: it is cut short, or more than ${MAX_TAIL_BYTES} bytes ` +
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
        `its end record is`,
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

/** Whether a reader could accept this as the end record: a directory, or a zip64 locator, ends there. */
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

/** The fields of the small record must be full, or equal those of the large one. */
function checkAgreement(small: DirectoryLocation, large: DirectoryLocation, path: string): void {
  const agrees = (field: keyof DirectoryLocation, full: number) =>
    small[field] === full || small[field] === large[field];
  if (agrees("entries", 0xffff) && agrees("length", 0xffffffff) && agrees("offset", 0xffffffff)) return;
  throw checkpointError("InvalidCheckpoint", path, "the two end records of its zip archive differ");
}

/** The little-endian u64 at `at`; values above 2^53 are rounded, but real offsets and sizes are smaller. */
function readU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

/* ---- The places of the entries of a zip archive, stored or compressed with deflate ---- */

/*
 * Zip stores most values twice: in the central directory at the end, and in a header before each entry. Readers
 * that use only one of these can see different contents in one file, so both are read and must agree, and features
 * that a checkpoint does not need are refused. Sizes and checksums come from the central directory, because
 * PyTorch omits them in the headers.
 */

/** An entry of a zip archive. */
interface ZipEntry {
  /** Its name, with "/" between folders. */
  readonly name: string;
  /** The file offset of its first byte, or of the first compressed one. */
  readonly dataStart: number;
  /** Its length in bytes. */
  readonly size: number;
  /** Its length in the file. */
  readonly packedSize: number;
  /** Whether it is compressed with deflate. */
  readonly deflated: boolean;
  /** The CRC-32 in the directory; not checked here. */
  readonly crc32: number;
}

/** The entries of an archive. */
interface ZipDirectory {
  /** By name, in the order of the central directory. */
  readonly entries: ReadonlyMap<string, ZipEntry>;
}

/** Options of {@linkcode readZipDirectory}. */
interface ZipDirectoryOptions {
  /** The most entries; default as in `CheckpointLimits`. */
  maxEntries?: number;
  /**
   * Checks all names before the entries are validated, and may throw: for an archive of another kind, recognised
   * by its names, the kind is a better error than its packing.
   */
  inspect?: (names: ReadonlySet<string>) => void;
}

const CENTRAL_SIGNATURE = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const ZIP64_EXTRA = 1;
/** A 32-bit field with this value is replaced by one in the zip64 extra field. */
const IN_ZIP64 = 0xffffffff;

const FLAG_ENCRYPTED = 1 << 0;
/** The effort of the compressor, which has no effect on the reader. */
const FLAGS_EFFORT = 1 << 1 | 1 << 2;
const FLAG_SIZES_FOLLOW = 1 << 3;
const FLAG_UTF8 = 1 << 11;

/** The event loop gets a turn after this many entries. */
const TURN_STEPS = 1024;

const STORED = 0;
const DEFLATED = 8;
/** The highest compression ratio of deflate. */
const MAX_DEFLATE_RATIO = 1032;

/** An entry of the central directory. */
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
 * Reads the directory of a zip archive and the header of each entry, and compares them.
 *
 * @param reader the archive
 * @param options see {@linkcode ZipDirectoryOptions}
 * @returns the entries; their ranges lie in the file and do not overlap
 * @throws {SafeTensorsError} "UnsupportedCheckpoint" for entries that are encrypted or compressed
 * otherwise and archives in several parts, "InvalidCheckpoint" for a damaged or contradictory archive
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

/** The sizes of the central entry at `at`, from its zip64 extra field if its own fields are full. */
function readSizes(view: DataView, at: number, extraAt: number, extraEnd: number): Sizes | undefined {
  let packedSize = view.getUint32(at + 20, true);
  let size = view.getUint32(at + 24, true);
  let localOffset = view.getUint32(at + 42, true);
  const disk = view.getUint16(at + 34, true);
  if (packedSize === IN_ZIP64 || size === IN_ZIP64 || localOffset === IN_ZIP64) {
    const [fieldAt, fieldEnd] = findExtra(view, extraAt, extraEnd);
    // The extra field holds only values whose own field is full, in this order.
    let next = fieldAt;
    const take = () => next + 8 <= fieldEnd ? readU64(view, (next += 8) - 8) : NaN;
    if (size === IN_ZIP64) size = take();
    if (packedSize === IN_ZIP64) packedSize = take();
    if (localOffset === IN_ZIP64) localOffset = take();
    if (![size, packedSize, localOffset].every(Number.isSafeInteger)) return undefined;
  }
  return { size, packedSize, localOffset, disk };
}

/** The range of the zip64 extra field's content; empty if there is none. */
function findExtra(view: DataView, at: number, end: number): [number, number] {
  while (at + 4 <= end) {
    const fieldEnd = at + 4 + view.getUint16(at + 2, true);
    if (view.getUint16(at, true) === ZIP64_EXTRA) return [at + 4, Math.min(fieldEnd, end)];
    at = fieldEnd;
  }
  return [end, end];
}

/** Names an entry in a message; a function, because most of the many entries need no message. */
function entryNamed(name: string): string {
  return `entry ${quote(name)}`;
}

function checkEntry({ name, flags, method, disk, size, packedSize }: CentralEntry, path: string): void {
  checkPacking(flags, method, name, path);
  if (disk !== 0) {
    throw unsupported(path, `${entryNamed(name)} is in another part of a zip archive in several parts`);
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

/** Refuses entries that are neither stored nor deflated. */
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

/** Checks each entry's local header and returns the start of its data, in the order of `central`. */
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
  /** The largest end of the k-th entry in the file: the next entry, or the directory for the last. */
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

  // If sizes follow the data, the header may hold zeros; those of the central directory are used.
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

/* ---- The container of PyTorch 1.6 and later: a zip archive with a pickle and one entry for each storage ---- */

/** The newest version of the archive's layout that PyTorch 2.13 reads. */
const MAX_VERSION = 10;

/** The record that describes the tensors. */
const PICKLE = "data.pkl";

/** The longest small record, such as `version`. */
const MAX_RECORD_BYTES = 64;

/**
 * Opens a checkpoint that is a zip archive.
 *
 * @throws {SafeTensorsError} as `readCheckpoint()`
 */
export async function openZipContainer(
  reader: ByteReader,
  limits: Required<CheckpointLimits>,
): Promise<Container> {
  const { path } = reader;
  const { entries } = await readZipDirectory(reader, {
    maxEntries: limits.maxEntries,
    inspect: (names) => refuseTorchScript(names, path),
  });
  const records = new Records(reader, entries);
  await checkVersion(records, path);
  const bigEndian = await readByteOrder(records, path);
  const pickle = await records.read(PICKLE, limits.maxPickleBytes);
  const { value, persistentIds, end } = await unpickle(pickle, path, limits);
  if (end !== pickle.length) {
    throw checkpointError("InvalidPickle", path, `${pickle.length - end} bytes follow the STOP of data.pkl`);
  }
  const storages = await collectStorages(persistentIds, path);
  const places = await findStorages(storages, records, path);
  checkPackedSize(places, reader, limits);
  return { kind: "zip", value, storages, places, bigEndian };
}

/** The entries of the folder that holds the checkpoint; PyTorch uses the folder of the first entry. */
class Records {
  readonly #reader: ByteReader;
  readonly #entries: ZipDirectory["entries"];
  readonly #root: string;
  /**
   * Whether the archive has checksums: `torch.serialization.set_crc32_options(False)` sets all to 0.
   */
  readonly #checked: boolean;

  constructor(reader: ByteReader, entries: ZipDirectory["entries"]) {
    this.#reader = reader;
    this.#entries = entries;
    this.#root = rootFolder(entries.keys());
    this.#checked = entries.values().some((entry) => entry.crc32 !== 0);
    if (this.#root === "" || this.find(PICKLE) === undefined) {
      const wanted = quote(`${this.#root || "archive/"}data.pkl`);
      throw checkpointError(
        "WrongFormat",
        reader.path,
        `it is a zip archive, but has no ${wanted} as torch.save() makes`,
      );
    }
  }

  find(name: string): ZipEntry | undefined {
    return this.#entries.get(this.#root + name);
  }

  /** Reads the whole of an existing record, and checks it. */
  async read(name: string, maxBytes: number): Promise<Uint8Array> {
    const entry = this.find(name)!;
    const { path } = this.#reader;
    const what = quote(entry.name);
    if (entry.size > maxBytes) {
      const detail = `${what} has ${entry.size} bytes: ${maxBytes} are allowed`;
      throw name === PICKLE
        ? limitError(path, detail, "maxPickleBytes")
        : checkpointError("UnsupportedCheckpoint", path, detail);
    }
    if (entry.deflated) return await inflate(this.#reader, this.packed(entry), what);
    const bytes = await this.#reader.read(entry.dataStart, entry.size);
    await checkCrc(bytes, this.#checked ? entry.crc32 : undefined, what, path);
    return bytes;
  }

  /** The place of a compressed entry in the file. */
  packed({ dataStart, packedSize, size, crc32 }: ZipEntry): PackedBytes {
    return { offset: dataStart, packedSize, size, crc32: this.#checked ? crc32 : undefined };
  }
}

/** The folder of the first name, with its "/"; empty if it has none. */
function rootFolder(names: Iterable<string>): string {
  for (const name of names) return name.slice(0, name.indexOf("/") + 1);
  return "";
}

function refuseTorchScript(names: ReadonlySet<string>, path: string): void {
  const constants = `${rootFolder(names)}constants.pkl`;
  if (!names.has(constants)) return;
  throw checkpointError(
    "UnsupportedCheckpoint",
    path,
    `it is a TorchScript archive, a program rather than a checkpoint (it has ${quote(constants)}): ` +
      `load it in PyTorch and save its state_dict() with torch.save()`,
  );
}

async function checkVersion(records: Records, path: string): Promise<void> {
  const name = [".data/version", "version"].find((name) => records.find(name) !== undefined);
  if (name === undefined) throw checkpointError("InvalidCheckpoint", path, `it has no record "version"`);
  const text = new TextDecoder().decode(await records.read(name, MAX_RECORD_BYTES));
  const version = /^[0-9]{1,9}\n?$/.test(text) ? Number.parseInt(text) : 0;
  if (version >= 1 && version <= MAX_VERSION) return;
  throw checkpointError(
    "UnsupportedCheckpoint",
    path,
    `its version is ${quote(text.trimEnd())}: 1 to ${MAX_VERSION} expected`,
  );
}

async function readByteOrder(records: Records, path: string): Promise<boolean> {
  if (records.find("byteorder") === undefined) return false;
  const text = new TextDecoder().decode(await records.read("byteorder", MAX_RECORD_BYTES));
  if (text === "little" || text === "big") return text === "big";
  throw checkpointError(
    "UnsupportedCheckpoint",
    path,
    `its byte order is ${quote(text)}: "little" or "big" expected`,
  );
}

/** Finds the entry of each storage, and checks its size. */
async function findStorages(
  { claims }: StorageTable,
  records: Records,
  path: string,
): Promise<Map<string, StoragePlace>> {
  const turn = new Turn();
  const places = new Map<string, StoragePlace>();
  for (const { key, bytes, type } of claims.values()) {
    if (places.size % STEP === 0) await turn.pause();
    if (!isPlainName(key)) {
      throw checkpointError("InvalidCheckpoint", path, `storage key ${quote(key)} is not a name of a record`);
    }
    const entry = records.find(`data/${key}`);
    if (entry === undefined) {
      throw checkpointError("InvalidCheckpoint", path, `storage ${quote(key)} has no record "data/${key}"`);
    }
    // The size of quantised elements does not matter, because their tensors are not read.
    if (entry.size !== bytes && type.what === undefined) {
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `storage ${quote(key)} has a record of ${entry.size} bytes, ${bytes} expected`,
      );
    }
    places.set(
      key,
      entry.deflated ? { start: 0, packed: records.packed(entry) } : { start: entry.dataStart },
    );
  }
  return places;
}

/** Whether a key names a record by itself: PyTorch writes numbers, other writers words. */
function isPlainName(key: string): boolean {
  return !/^\.{0,2}$|[/\\\p{Cc}]/u.test(key);
}

/**
 * Compressed storages must not unpack to far more than the file has: otherwise a small file could fill the memory.
 */
function checkPackedSize(
  places: ReadonlyMap<string, StoragePlace>,
  { path, size }: ByteReader,
  { maxExpandedBytes }: Required<CheckpointLimits>,
): void {
  const limit = expansionLimit(size, maxExpandedBytes);
  const total = places.values().reduce((sum, { packed }) => sum + (packed?.size ?? 0), 0);
  if (total <= limit) return;
  const detail =
    `its compressed storages unpack to ${total} bytes out of a file of ${size}: ${limit} are allowed`;
  throw limitError(path, detail, "maxExpandedBytes");
}
