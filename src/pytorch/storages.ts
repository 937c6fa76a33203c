/** The storages that a pickle refers to: their types and sizes, and later their places in the file. */
import { type DType, dtypeBits } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import type { SourceFile } from "../files/source.ts";
import type { ByteReader } from "./bytes.ts";
import { checkpointError } from "./errors.ts";
import { describe, type PersistentId, PickleGlobal, PickleTuple, type PickleValue } from "./pickle_value.ts";
import { crc32 } from "node:zlib";

/** The event loop gets a turn after this many storages. */
const TURN_STEPS = 1024;

/** A storage as the pickle describes it, not yet checked against the file. */
export interface StorageClaim {
  /** Its name in the file. */
  readonly key: string;
  /** The storage type at its first use in the pickle. */
  readonly type: PickleGlobal;
  /** How many elements it has; of an UntypedStorage, bytes. */
  readonly elements: number;
  /** Its length in bytes. */
  readonly bytes: number;
}

/** A storage, or a part of one, as a tensor refers to it. */
export interface StorageView {
  /** The whole storage. */
  readonly storage: StorageClaim;
  /** The type under which the tensor refers to it. */
  readonly type: PickleGlobal;
  /** The offset of the view in the storage, in bytes. */
  readonly offset: number;
  /** The length of the view in bytes. */
  readonly bytes: number;
}

/** A storage without bytes or with an unknown element type, so that its tensors cannot be read. */
interface UnreadableStorage {
  /** Its name. */
  readonly key: string;
  /** The reason. */
  readonly reason: string;
}

/** Every storage of a pickle. */
export interface StorageTable {
  /** The storages, in the order in which the pickle first names them. */
  readonly claims: ReadonlyMap<string, StorageClaim>;
  /** The target of each persistent id, by its index. */
  readonly views: readonly (StorageView | UnreadableStorage)[];
}

/**
 * Reads the persistent ids of a pickle, `("storage", type, key, location, numel)`; in a legacy file with a
 * sixth item, None or `(view key, offset, size)`, for a storage that is a part of another.
 *
 * @throws {SafeTensorsError} "InvalidPickle" for an id of another form, "InvalidCheckpoint" if two of them
 * contradict each other
 */
export async function collectStorages(ids: readonly PersistentId[], path: string): Promise<StorageTable> {
  const turn = new Turn();
  const claims = new Map<string, StorageClaim>();
  const views: (StorageView | UnreadableStorage)[] = [];
  for (const id of ids) {
    if (views.length % TURN_STEPS === 0) await turn.pause();
    const view = readId(id.id, path);
    views.push(view);
    if ("reason" in view) continue;
    // One storage may have several types: PyTorch refers to it as bytes for a view with another dtype.
    const known = claims.get(view.storage.key);
    if (known === undefined) claims.set(view.storage.key, view.storage);
    else if (known.bytes !== view.storage.bytes) throw different(known, view.storage, path);
  }
  return { claims, views };
}

function readId(id: PickleValue, path: string): StorageView | UnreadableStorage {
  const items = id instanceof PickleTuple ? id.items : [];
  const [tag, type, key, location, numel, part = null] = items;
  const wellFormed = tag === "storage" && items.length <= 6 && typeof location === "string" &&
    type instanceof PickleGlobal;
  if (!wellFormed || typeof key !== "string" || !isCount(numel)) {
    throw checkpointError(
      "InvalidPickle",
      path,
      `${describe(id)} is a persistent id, but not one of a storage`,
    );
  }
  if (location === "meta") return { key, reason: `storage ${quote(key)} is a meta storage and has no data` };
  if (type.role !== "storage") {
    return { key, reason: `storage ${quote(key)} has the unknown type ${quote(type.path)}` };
  }
  const storage = { key, type, elements: numel, bytes: numel * type.unit };
  if (!Number.isSafeInteger(storage.bytes)) {
    throw checkpointError("InvalidCheckpoint", path, `storage ${quote(key)} claims ${numel} elements`);
  }
  const [first, count] = readPart(part, numel, key, path);
  return { storage, type, offset: first * type.unit, bytes: count * type.unit };
}

/** The elements of a legacy view in its storage: the first, and the number. */
function readPart(part: PickleValue, numel: number, key: string, path: string): [number, number] {
  if (part === null) return [0, numel];
  const [viewKey, first, count] = part instanceof PickleTuple && part.items.length === 3 ? part.items : [];
  if (typeof viewKey !== "string" || !isCount(first) || !isCount(count)) {
    throw checkpointError("InvalidPickle", path, `storage ${quote(key)} is shared by ${describe(part)}`);
  }
  if (first + count > numel) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `a view of storage ${quote(key)} starts at element ${first} and has ${count}: the storage has ${numel}`,
    );
  }
  return [first, count];
}

function different(known: StorageClaim, other: StorageClaim, path: string): Error {
  return checkpointError(
    "InvalidCheckpoint",
    path,
    `storage ${quote(known.key)} is ${known.bytes} bytes of ${known.type.path} in one place, ` +
      `${other.bytes} bytes of ${other.type.path} in another`,
  );
}

/** Whether `value` is an int from 0 that a number holds exactly. */
export function isCount(value: PickleValue | undefined): value is number {
  return typeof value === "number" && value >= 0;
}

/* ---- The result of opening either kind of checkpoint file ---- */

/** Bytes that a zip archive holds compressed. */
export interface PackedBytes {
  /** The file offset of the first compressed byte. */
  readonly offset: number;
  /** The number of compressed bytes. */
  readonly packedSize: number;
  /** The number of bytes after unpacking. */
  readonly size: number;
  /** The CRC-32 of the unpacked bytes; undefined if the archive has no checksums. */
  readonly crc32: number | undefined;
}

/** The place of a storage's bytes. */
export interface StoragePlace {
  /** The offset of its first byte in the file, or in the unpacked bytes. */
  readonly start: number;
  /** Its compressed bytes, if it is compressed. */
  readonly packed?: PackedBytes;
}

/** A checkpoint file, opened: its pickle read, its storages found. */
export interface Container {
  /** "zip": the archive of PyTorch 1.6 and later; "legacy": the sequence of pickles before 1.6. */
  readonly kind: "zip" | "legacy";
  /** The object that was saved. */
  readonly value: PickleValue;
  /** The storages it refers to. */
  readonly storages: StorageTable;
  /** The place of each storage by its key; all its bytes are there. */
  readonly places: ReadonlyMap<string, StoragePlace>;
  /** Whether the components of elements are stored most significant byte first. */
  readonly bigEndian: boolean;
}

/* ---- A tensor of a checkpoint, as a range of its file ---- */

/** A tensor of a checkpoint: its elements, its storage, and their place in the file. */
export interface CheckpointTensor {
  /** Its name in the state dict; the keys of nested containers, joined with dots. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /** Its dimensions, outermost first; the last one of an F4 tensor counts elements, two to a byte. */
  readonly shape: readonly number[];
  /**
   * The distance between neighbours in each dimension, in elements; 0 repeats one element. An F4 tensor is
   * contiguous.
   */
  readonly strides: readonly number[];
  /**
   * The file offset of its first element; its storage offset is included. An empty tensor starts with its
   * storage. For a compressed storage, this and `storageStart` are offsets in the unpacked bytes.
   */
  readonly fileOffset: number;
  /** The key of its storage; tensors that share memory have the same. */
  readonly storage: string;
  /** The file offset of that storage's first byte. */
  readonly storageStart: number;
  /** The length of that storage in bytes. */
  readonly storageBytes: number;
  /** The compressed bytes of its storage, if it is compressed. */
  readonly packed?: PackedBytes;
  /** Whether its elements lie in the file one after another, in the order of its indices. */
  readonly contiguous: boolean;
  /** The size in bytes of the components to reverse after reading; 0 for a little-endian file. */
  readonly byteSwap: 0 | 2 | 4 | 8;
  /** Whether its elements are the complex conjugates of those in the file. */
  readonly conjugate: boolean;
  /** Whether its elements are the negatives of those in the file. */
  readonly negative: boolean;
}

/** How many elements a tensor of this shape has. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, size) => count * size, 1);
}

/** Bytes of a tensor's elements. */
export function tensorBytes({ shape, dtype }: CheckpointTensor): number {
  return elementCount(shape) * dtypeBits(dtype) / 8;
}

/** Whether a tensor's bytes in the file need no change. */
export function liesReady({ packed, contiguous, byteSwap, conjugate, negative }: CheckpointTensor): boolean {
  return packed === undefined && contiguous && byteSwap === 0 && !conjugate && !negative;
}

/* ---- Compressed entries of a zip archive, unpacked in bounded memory ---- */

/** Compressed bytes of one read. */
const READ_BYTES = 2 ** 20;

/**
 * Unpacks `packed`. Memory in use: at most `packed.size` bytes, also for damaged compressed bytes.
 *
 * @param what the name of the entry, for messages
 * @throws {SafeTensorsError} "InvalidCheckpoint" if the compressed bytes are damaged, or make more or fewer bytes
 * than the directory says, or bytes with another checksum
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

/** The event loop gets a turn after the checksum of this many bytes. */
const CRC_BYTES = 2 ** 20;

/** @throws {SafeTensorsError} "InvalidCheckpoint" if the CRC-32 is known and differs */
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

/* ---- Access to the bytes of a tensor's storage ---- */

/** Reads at the offsets of a tensor. */
type StorageReader = Pick<SourceFile, "read">;

/**
 * Unpacked storages. The tensors of one storage are read one after another and share its bytes; a weak reference
 * lets the garbage collector free them after the last reader.
 */
const unpacked = new WeakMap<PackedBytes, WeakRef<Uint8Array<ArrayBuffer>>>();

/**
 * Opens the storage of a tensor: the file, or for a compressed storage all unpacked bytes in memory.
 *
 * @throws {SafeTensorsError} "InvalidCheckpoint" if the compressed bytes are damaged
 * @throws {ReadError} if the file cannot be read
 */
export async function openStorage(
  file: SourceFile,
  { packed, storage }: CheckpointTensor,
): Promise<StorageReader> {
  if (!packed) return file;
  const known = unpacked.get(packed)?.deref();
  const bytes = known ?? await inflate(byteReader(file), packed, `storage ${quote(storage)}`);
  if (!known) unpacked.set(packed, new WeakRef(bytes));
  return {
    read(offset, target) {
      target.set(bytes.subarray(offset, offset + target.length));
      return Promise.resolve();
    },
  };
}

/** Wraps a file so that each read returns new memory. */
export function byteReader(file: SourceFile): ByteReader {
  return {
    path: file.path,
    size: file.size,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      await file.read(offset, bytes);
      return bytes;
    },
  };
}
