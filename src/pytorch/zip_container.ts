/**
 * The container of PyTorch 1.6 and later: a zip archive with a pickle and one stored entry for each storage.
 */
import { quote } from "../format/text.ts";
import type { ByteReader } from "./byte_reader.ts";
import { checkpointError } from "./checkpoint_error.ts";
import type { Container } from "./container.ts";
import { crc32 } from "./crc32.ts";
import type { CheckpointLimits } from "./limits.ts";
import { collectStorages, type StorageTable } from "./storages.ts";
import { unpickle } from "./unpickler.ts";
import { readZipDirectory, type ZipDirectory, type ZipEntry } from "./zip_directory.ts";

/** The newest version of the archive's layout that PyTorch 2.13 reads. */
const MAX_VERSION = 10;

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
  const pickle = await records.read("data.pkl", limits.maxPickleBytes);
  const { value, persistentIds, end } = unpickle(pickle, path, limits);
  if (end !== pickle.length) {
    throw checkpointError("InvalidPickle", path, `${pickle.length - end} bytes follow the STOP of data.pkl`);
  }
  const storages = collectStorages(persistentIds, path);
  return { kind: "zip", value, storages, starts: findStorages(storages, records, path), bigEndian };
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
    if (this.#root === "" || this.find("data.pkl") === undefined) {
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
    if (entry.size > maxBytes) {
      throw checkpointError(
        "UnsupportedCheckpoint",
        path,
        `${quote(entry.name)} has ${entry.size} bytes: ${maxBytes} are allowed`,
      );
    }
    const bytes = await this.#reader.read(entry.dataStart, entry.size);
    if (this.#checked && crc32(bytes) !== entry.crc32) {
      const hex = (crc: number) => crc.toString(16).padStart(8, "0");
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `${quote(entry.name)} is damaged: its CRC-32 is ${hex(crc32(bytes))}, ${hex(entry.crc32)} expected`,
      );
    }
    return bytes;
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

/**
 * Finds the entry of each storage, whose name ends in digits and nothing else, and whose size must be right.
 */
function findStorages({ claims }: StorageTable, records: Records, path: string): Map<string, number> {
  const starts = new Map<string, number>();
  for (const { key, bytes } of claims.values()) {
    if (!/^[0-9]{1,20}$/.test(key)) {
      throw checkpointError("InvalidCheckpoint", path, `storage key ${quote(key)} is not a number`);
    }
    const entry = records.find(`data/${key}`);
    if (entry === undefined) {
      throw checkpointError("InvalidCheckpoint", path, `storage ${quote(key)} has no record "data/${key}"`);
    }
    if (entry.size !== bytes) {
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `storage ${quote(key)} has a record of ${entry.size} bytes, ${bytes} expected`,
      );
    }
    starts.set(key, entry.dataStart);
  }
  return starts;
}
