/** The storages that a pickle refers to: what it claims of each, before anyone has looked where they lie. */
import { type DType, dtypeBits } from "../format/dtype.ts";
import { quote } from "../format/text.ts";
import { checkpointError } from "./checkpoint_error.ts";
import { PickleGlobal } from "./globals.ts";
import { describe, type PersistentId, PickleTuple, type PickleValue } from "./pickle_value.ts";

/** A storage by its claims. */
export interface StorageClaim {
  /** Its name in the file. */
  readonly key: string;
  /** The storage type that the pickle gives it. */
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
  /** The dtype of its elements; undefined for an UntypedStorage, which is bytes. */
  readonly dtype: DType | undefined;
  /** Where the view starts in the storage, in bytes. */
  readonly offset: number;
  /** How many bytes of it the view has. */
  readonly bytes: number;
}

/** Every storage of a pickle. */
export interface StorageTable {
  /** The storages, in the order in which the pickle first names them. */
  readonly claims: ReadonlyMap<string, StorageClaim>;
  /** What each persistent id refers to. */
  readonly views: ReadonlyMap<PersistentId, StorageView>;
}

/**
 * Reads the persistent ids of a pickle, `("storage", type, key, location, numel)`; in a legacy file with a
 * sixth item, None or `(view key, offset, size)`, for storages that are part of another.
 *
 * @throws {SafeTensorsError} "InvalidPickle" for an id of another form, "InvalidCheckpoint" where two of them
 * contradict each other, "UnsupportedCheckpoint" for modules and meta storages
 */
export function collectStorages(ids: readonly PersistentId[], path: string): StorageTable {
  const claims = new Map<string, StorageClaim>();
  const views = new Map<PersistentId, StorageView>();
  for (const id of ids) {
    const view = readId(id.id, path);
    const known = claims.get(view.storage.key);
    if (known === undefined) claims.set(view.storage.key, view.storage);
    else checkSame(known, view.storage, path);
    views.set(id, view);
  }
  return { claims, views };
}

function readId(id: PickleValue, path: string): StorageView {
  const items = id instanceof PickleTuple ? id.items : [];
  if (items[0] === "module") {
    throw checkpointError(
      "UnsupportedCheckpoint",
      path,
      "it holds a whole module: save its state_dict() instead",
    );
  }
  const [tag, type, key, location, numel, part = null] = items;
  const wellFormed = tag === "storage" && items.length <= 6 && typeof location === "string" &&
    type instanceof PickleGlobal && type.role === "storage";
  if (!wellFormed || typeof key !== "string" || !isCount(numel)) {
    throw checkpointError(
      "InvalidPickle",
      path,
      `${describe(id)} is a persistent id, but not one of a storage`,
    );
  }
  if (location === "meta") {
    throw checkpointError(
      "UnsupportedCheckpoint",
      path,
      `storage ${quote(key)} is a meta storage and has no data`,
    );
  }
  const unit = type.dtype === undefined ? 1 : dtypeBits(type.dtype) / 8;
  const storage = { key, type, elements: numel, bytes: numel * unit };
  if (!Number.isSafeInteger(storage.bytes)) {
    throw checkpointError("InvalidCheckpoint", path, `storage ${quote(key)} claims ${numel} elements`);
  }
  const [first, count] = readPart(part, numel, key, path);
  return { storage, dtype: type.dtype, offset: first * unit, bytes: count * unit };
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

function checkSame(known: StorageClaim, other: StorageClaim, path: string): void {
  if (known.type === other.type && known.bytes === other.bytes) return;
  // PyTorch itself saves one empty storage under several types.
  if (known.bytes === 0 && other.bytes === 0) return;
  throw checkpointError(
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
