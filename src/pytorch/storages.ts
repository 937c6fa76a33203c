/** The storages that a pickle refers to: what it claims of each, before anyone has looked where they lie. */
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { checkpointError } from "./checkpoint_error.ts";
import { PickleGlobal } from "./globals.ts";
import { describe, type PersistentId, PickleTuple, type PickleValue } from "./pickle_value.ts";

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
export interface UnreadableStorage {
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
