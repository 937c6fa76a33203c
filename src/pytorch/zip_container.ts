/**
 * The container of PyTorch 1.6 and later: a zip archive with a pickle and one entry for each storage.
 */
import { quote } from "../base/text.ts";
import type { ByteReader } from "./byte_reader.ts";
import { STEP } from "../base/steps.ts";
import { Turn } from "../base/turn.ts";
import { checkpointError, limitError } from "./checkpoint_error.ts";
import type { Container, PackedBytes, StoragePlace } from "./container.ts";
import { checkCrc, inflate } from "./inflate.ts";
import { type CheckpointLimits, expansionLimit } from "./limits.ts";
import { collectStorages, type StorageTable } from "./storages.ts";
import { unpickle } from "./unpickler.ts";
import { readZipDirectory, type ZipDirectory, type ZipEntry } from "./zip_directory.ts";

/** The newest version of the archive's layout that PyTorch 2.13 reads. */
const MAX_VERSION = 10;

/** The record that describes the tensors. */
const PICKLE = "data.pkl";

/** The longest of the small records, such as `version`, that is looked at. */
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

/** The entries of the one folder that holds a checkpoint; PyTorch takes the folder of the first entry. */
class Records {
  readonly #reader: ByteReader;
  readonly #entries: ZipDirectory["entries"];
  readonly #root: string;
  /**
   * Whether the archive has checksums: `torch.serialization.set_crc32_options(False)` leaves 0 everywhere.
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

  /** Reads a record that is there, whole, and checks it. */
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

  /** How a compressed entry lies in the file. */
  packed({ dataStart, packedSize, size, crc32 }: ZipEntry): PackedBytes {
    return { offset: dataStart, packedSize, size, crc32: this.#checked ? crc32 : undefined };
  }
}

/** The folder of the first name, with its "/"; empty where it has none. */
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

/** Finds the entry of each storage, whose size must be right. */
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
    // How many bytes quantised elements take is of no interest: no tensor is read from them.
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

/** Whether a key names a record by itself: PyTorch's are numbers, other writers have words. */
function isPlainName(key: string): boolean {
  return !/^\.{0,2}$|[/\\\p{Cc}]/u.test(key);
}

/** Compressed storages must not unpack to far more than the file has: else a small file could fill the memory. */
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
