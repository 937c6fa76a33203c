/**
 * The container before PyTorch 1.6: a sequence of five pickles (magic number, protocol version, system
 * information, the object, the storage keys), then for each key a count of elements and their bytes.
 */
import { STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import { type ByteReader, type FileRange, readScattered } from "./bytes.ts";
import { checkpointError, type CheckpointLimits, limitError } from "./errors.ts";
import {
  collectStorages,
  type Container,
  type StorageClaim,
  type StoragePlace,
  type StorageTable,
} from "./storages.ts";
import { isListedOpcode, Op, opcodeEnd } from "./opcodes.ts";
import { describe, PickleDict, PickleList, type PickleValue } from "./pickle_value.ts";
import { unpickle, type Unpickled } from "./unpickler.ts";

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

/** Bytes of the element count before each storage. */
const COUNT_BYTES = 8;

/** The most bytes that may follow the last storage; they are ignored, as after a zip archive. */
const MAX_TAIL_BYTES = 2 ** 16;

/** Bytes of the first read; each further read doubles them. */
const FIRST_WINDOW_BYTES = 2 ** 16;

/**
 * Opens a checkpoint that is a sequence of pickles.
 *
 * PyTorch writes this container's storages little-endian on every machine, so the byte order in the system
 * information has no effect.
 *
 * @throws {SafeTensorsError} as `readCheckpoint()`
 */
export async function openLegacyContainer(
  reader: ByteReader,
  limits: Required<CheckpointLimits>,
): Promise<Container> {
  const { path } = reader;
  const pickles = new PickleSequence(reader, limits);
  if ((await pickles.next()).value !== MAGIC) {
    throw checkpointError("WrongFormat", path, "it is a pickle without PyTorch's magic number");
  }
  const protocol = (await pickles.next()).value;
  if (protocol !== PROTOCOL) {
    throw checkpointError(
      "UnsupportedCheckpoint",
      path,
      `its protocol is ${describe(protocol)}: ${PROTOCOL} expected`,
    );
  }
  const system = (await pickles.next()).value;
  if (!(system instanceof PickleDict)) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `its system information is ${describe(system)}: a dict expected`,
    );
  }
  const { value, persistentIds } = await pickles.next();
  const keys = await pickles.next();
  const storages = await collectStorages(persistentIds, path);
  const order = await orderStorages(keys.value, storages, path);
  const places = await placeStorages(reader, order, keys.end);
  return { kind: "legacy", value, storages, places, bigEndian: false };
}

/** Reads the pickles at the start of a file, whose length is not known before. */
class PickleSequence {
  readonly #reader: ByteReader;
  readonly #limits: Required<CheckpointLimits>;
  #bytes = new Uint8Array();
  #at = 0;

  constructor(reader: ByteReader, limits: Required<CheckpointLimits>) {
    this.#reader = reader;
    this.#limits = limits;
  }

  async next(): Promise<Unpickled> {
    let scanned = skipToStop(this.#bytes, this.#at);
    while (scanned >= 0 && await this.#grow()) scanned = skipToStop(this.#bytes, scanned);
    // Without a whole pickle, this throws the error with its offset.
    const unpickled = await unpickle(this.#bytes, this.#reader.path, this.#limits, this.#at);
    this.#at = unpickled.end;
    return unpickled;
  }

  /** Doubles the bytes read; false at the end of the file. */
  async #grow(): Promise<boolean> {
    const { path, size } = this.#reader;
    const { length } = this.#bytes;
    const { maxPickleBytes } = this.#limits;
    if (length === size) return false;
    if (length >= maxPickleBytes) {
      throw limitError(
        path,
        `its pickles take more than the ${maxPickleBytes} bytes allowed`,
        "maxPickleBytes",
      );
    }
    const wanted = Math.min(Math.max(FIRST_WINDOW_BYTES, length * 2), maxPickleBytes, size);
    const grown = new Uint8Array(wanted);
    grown.set(this.#bytes);
    grown.set(await this.#reader.read(length, wanted - length), length);
    this.#bytes = grown;
    return true;
  }
}

/**
 * Skips opcodes from `at`. Returns -1 at STOP, or at an opcode that ends the pickle with an error; else the
 * position of the first opcode that is not whole in `bytes`, so that the caller can read more.
 */
function skipToStop(bytes: Uint8Array, at: number): number {
  while (at < bytes.length) {
    const code = bytes[at]!;
    const end = isListedOpcode(code) ? opcodeEnd(bytes, at) : at;
    if (end > bytes.length) return at;
    if (end === at || code === Op.STOP) return -1;
    at = end;
  }
  return at;
}

/** The storages in the order of the file, which is that of the key list; it must name each storage once. */
async function orderStorages(
  keys: PickleValue,
  { claims, views }: StorageTable,
  path: string,
): Promise<StorageClaim[]> {
  if (!(keys instanceof PickleList)) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `its storage keys are ${describe(keys)}: a list expected`,
    );
  }
  const turn = new Turn();
  const order = new Map<string, StorageClaim>();
  for (const key of keys.items) {
    if (order.size % STEP === 0) await turn.pause();
    const claim = typeof key === "string" ? claims.get(key) : undefined;
    if (claim === undefined) {
      // The next storage cannot be found if the element size of this one is unknown.
      const unreadable = views.find((view) => "reason" in view && view.key === key);
      if (unreadable && "reason" in unreadable) {
        throw checkpointError("UnsupportedCheckpoint", path, unreadable.reason);
      }
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `no tensor refers to its storage key ${describe(key)}`,
      );
    }
    if (order.has(claim.key)) {
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `storage ${quote(claim.key)} occurs twice in its storage keys`,
      );
    }
    order.set(claim.key, claim);
  }
  let looked = 0;
  for (const key of claims.keys()) {
    if (++looked % STEP === 0) await turn.pause();
    if (!order.has(key)) {
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `storage ${quote(key)} is missing from its storage keys`,
      );
    }
  }
  return [...order.values()];
}

/** Places the storages one after another from `start`, and checks the count before each. */
async function placeStorages(
  reader: ByteReader,
  order: readonly StorageClaim[],
  start: number,
): Promise<Map<string, StoragePlace>> {
  const { path, size } = reader;
  const turn = new Turn();
  const places = new Map<string, StoragePlace>();
  const counts: FileRange[] = [];
  let end = start;
  for (const { key, bytes } of order) {
    if (counts.length % STEP === 0) await turn.pause();
    places.set(key, { start: end + COUNT_BYTES });
    counts.push({ offset: end, length: COUNT_BYTES });
    end += COUNT_BYTES + bytes;
    if (end > size) {
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `it is cut short: storage ${quote(key)} ends at offset ${end}, the file at ${size}`,
      );
    }
  }
  if (size - end > MAX_TAIL_BYTES) {
    throw checkpointError(
      "InvalidCheckpoint",
      path,
      `${size - end} bytes follow its last storage: ${MAX_TAIL_BYTES} are allowed`,
    );
  }
  await readScattered(reader, counts, (bytes, i) => {
    const { key, elements } = order[i]!;
    const count = new DataView(bytes.buffer, bytes.byteOffset, COUNT_BYTES).getBigInt64(0, true);
    if (count !== BigInt(elements)) {
      throw checkpointError(
        "InvalidCheckpoint",
        path,
        `storage ${quote(key)} has ${count} elements in the file, ${elements} expected`,
      );
    }
  });
  return places;
}
