/** The storages that a pickle refers to: what it claims of each, before anyone has looked where they lie. */
import { type DType, dtypeBits } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import type { SourceFile } from "../files/source.ts";
import type { ByteReader } from "./bytes.ts";
import { checkpointError } from "./errors.ts";
import { describe, type PersistentId, PickleGlobal, PickleTuple, type PickleValue } from "./pickle_value.ts";
import { crc32 } from "node:zlib";

/** Storages between two looks at the clock. */
const TURN_STEPS = 1024;

/** A storage by its claims. */
export interface StorageClaim {
  /** Its name in the file. */
  readonly key: string;
  /** The storage type that the pickle gives it where it first names it. */
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
  /** Where the view starts in the storage, in bytes. */
  readonly offset: number;
  /** How many bytes of it the view has. */
  readonly bytes: number;
}

/** A storage that has no bytes here, or whose elements are not known: its tensors cannot be read. */
interface UnreadableStorage {
  /** Its name. */
  readonly key: string;
  /** Why. */
  readonly reason: string;
}

/** Every storage of a pickle. */
export interface StorageTable {
  /** The storages, in the order in which the pickle first names them. */
  readonly claims: ReadonlyMap<string, StorageClaim>;
  /** What each persistent id refers to, by its index. */
  readonly views: readonly (StorageView | UnreadableStorage)[];
}

/**
 * Reads the persistent ids of a pickle, `("storage", type, key, location, numel)`; in a legacy file with a
 * sixth item, None or `(view key, offset, size)`, for storages that are part of another.
 *
 * @throws {SafeTensorsError} "InvalidPickle" for an id of another form, "InvalidCheckpoint" where two of them
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
    // One storage may go under several types: PyTorch refers to bytes for the views of another dtype.
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

/** The elements that a legacy view has of its storage: the first, and how many. */
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

/* ---- What the two kinds of checkpoint files come down to ---- */

/** Bytes that a zip archive holds compressed. */
export interface PackedBytes {
  /** The file offset of the first compressed byte. */
  readonly offset: number;
  /** How many compressed bytes there are. */
  readonly packedSize: number;
  /** How many bytes they unpack to. */
  readonly size: number;
  /** The CRC-32 of these; undefined where the archive has no checksums. */
  readonly crc32: number | undefined;
}

/** Where the bytes of a storage are. */
export interface StoragePlace {
  /** The offset of its first byte in the file, or in what it is unpacked to. */
  readonly start: number;
  /** How it is compressed, where it is. */
  readonly packed?: PackedBytes;
}

/** A checkpoint file, opened: its pickle read, its storages found. */
export interface Container {
  /** Which kind it is: the zip archive of PyTorch 1.6 and later, or the pickles in a row before that. */
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

/** A tensor of a checkpoint: which elements of which storage it shows, and where in the file they lie. */
export interface CheckpointTensor {
  /** Its name in the state dict; those of nested containers are joined with dots. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /** Its dimensions, outermost first; the last one of an F4 tensor counts elements, two to a byte. */
  readonly shape: readonly number[];
  /**
   * How many elements lie between neighbours in each dimension; 0 repeats one. An F4 tensor is contiguous.
   */
  readonly strides: readonly number[];
  /**
   * The file offset of its first element; its storage offset is applied. An empty tensor starts with its
   * storage. Where the storage is compressed, this and `storageStart` are offsets in what it unpacks to.
   */
  readonly fileOffset: number;
  /** Which storage it is part of; tensors that share memory share this. */
  readonly storage: string;
  /** The file offset of that storage's first byte. */
  readonly storageStart: number;
  /** The length of that storage in bytes. */
  readonly storageBytes: number;
  /** How its storage is compressed, where it is. */
  readonly packed?: PackedBytes;
  /** Whether its elements lie in the file one after another, in the order of its indices. */
  readonly contiguous: boolean;
  /** The bytes of each component to be reversed after reading; 0 where the file is little-endian. */
  readonly byteSwap: 0 | 2 | 4 | 8;
  /** Whether it is the complex conjugate of what the file holds. */
  readonly conjugate: boolean;
  /** Whether it is the negative of what the file holds. */
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

/** Whether the file has the bytes of a tensor as they are wanted. */
export function liesReady({ packed, contiguous, byteSwap, conjugate, negative }: CheckpointTensor): boolean {
  return packed === undefined && contiguous && byteSwap === 0 && !conjugate && !negative;
}

/* ---- Compressed entries of a zip archive, unpacked in bounded memory ---- */

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

/* ---- Where the bytes of a tensor's storage are read from ---- */

/** Reads at the offsets of a tensor. */
type StorageReader = Pick<SourceFile, "read">;

/**
 * Storages that are unpacked, for as long as someone reads them: the tensors of one storage are read one after another,
 * and the memory is given back without being asked for.
 */
const unpacked = new WeakMap<PackedBytes, WeakRef<Uint8Array<ArrayBuffer>>>();

/**
 * Opens the storage of a tensor: the file, or, where the storage is compressed, what it unpacks to, all of it in memory.
 *
 * @throws {SafeTensorsError} "InvalidCheckpoint" where the compressed bytes are damaged
 * @throws {ReadError} where the file cannot be read
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

/** A file for those who want each read in memory of its own. */
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
