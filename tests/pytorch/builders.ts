/** Small writers of pickles, zip archives and checkpoints, for files that PyTorch does not write. */
import { crc32 } from "node:zlib";

/** Bytes of a pickle that leave one value on the stack. */
export type Part = Uint8Array;

/** Joins bytes. */
export function concat(...parts: (Uint8Array | readonly number[])[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** The UTF-8 bytes of `text`. */
export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** `value` in `size` bytes, least significant first. */
export function little(value: number | bigint, size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  let rest = BigInt.asUintN(size * 8, BigInt(value));
  for (let i = 0; i < size; i++, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

// Pickles: each function returns the bytes that push one value.

/** `None`. */
export const none: Part = utf8("N");
/** `()`. */
export const emptyTuple: Part = utf8(")");

/** `True` or `False`. */
export function bool(value: boolean): Part {
  return Uint8Array.of(value ? 0x88 : 0x89);
}

/** An int, as BININT if it fits, otherwise as LONG1. */
export function int(value: number | bigint): Part {
  const big = BigInt(value);
  if (BigInt.asIntN(32, big) === big) return concat(utf8("J"), little(big, 4));
  let size = 5;
  while (BigInt.asIntN(size * 8, big) !== big) size++;
  return concat([0x8a, size], little(big, size));
}

/** A float. */
export function float(value: number): Part {
  const bytes = new Uint8Array(9);
  bytes[0] = 0x47;
  new DataView(bytes.buffer).setFloat64(1, value);
  return bytes;
}

/** A string. */
export function str(text: string): Part {
  const bytes = utf8(text);
  return concat(utf8("X"), little(bytes.length, 4), bytes);
}

/** A tuple of any length. */
export function tuple(...items: Part[]): Part {
  return concat(utf8("("), ...items, utf8("t"));
}

/** A list. */
export function list(...items: Part[]): Part {
  return concat(utf8("]("), ...items, utf8("e"));
}

/** A dict. */
export function dict(...entries: [Part, Part][]): Part {
  return concat(utf8("}("), ...entries.flat(), utf8("u"));
}

/** A dict with strings as keys. */
export function record(entries: Record<string, Part>): Part {
  return dict(...Object.entries(entries).map(([key, value]): [Part, Part] => [str(key), value]));
}

/** A global by its dotted path; the last part is its name. */
export function global(path: string): Part {
  const dot = path.lastIndexOf(".");
  return utf8(`c${path.slice(0, dot)}\n${path.slice(dot + 1)}\n`);
}

/** A call by REDUCE. */
export function reduce(callee: string, ...args: Part[]): Part {
  return concat(global(callee), tuple(...args), utf8("R"));
}

/** An OrderedDict filled by SETITEMS. */
export function orderedDict(entries: Record<string, Part>): Part {
  const items = Object.entries(entries).flatMap(([key, value]) => [str(key), value]);
  return concat(reduce("collections.OrderedDict"), utf8("("), ...items, utf8("u"));
}

/** `value`, also stored as memo `index`. */
export function put(index: number, value: Part): Part {
  return concat(value, utf8("r"), little(index, 4));
}

/** The value of memo `index`. */
export function get(index: number): Part {
  return concat(utf8("j"), little(index, 4));
}

/** A persistent id. */
export function persistent(id: Part): Part {
  return concat(id, utf8("Q"));
}

/** A storage reference. */
export function storage(type: string, key: string, numel: number | bigint, ...more: Part[]): Part {
  return persistent(tuple(str("storage"), global(type), str(key), str("cpu"), int(numel), ...more));
}

/** Integers as a tuple. */
export function ints(values: readonly (number | bigint)[]): Part {
  return tuple(...values.map(int));
}

/** A tensor built by `_rebuild_tensor_v2`. */
export function tensor(
  from: Part,
  size: readonly (number | bigint)[],
  stride: readonly (number | bigint)[],
  offset: number | bigint = 0,
  ...metadata: Part[]
): Part {
  const hooks = reduce("collections.OrderedDict");
  const args = [from, int(offset), ints(size), ints(stride), bool(false), hooks, ...metadata];
  return reduce("torch._utils._rebuild_tensor_v2", ...args);
}

/** The tensor of four floats in most hostile files. */
export function fourFloats(key = "0"): Part {
  return tensor(storage("torch.FloatStorage", key, 4), [4], [1]);
}

/** The storage of those four floats. */
export const floats: Part = storage("torch.FloatStorage", "0", 4);

/** A checkpoint of one tensor "w". */
export function one(
  value: Part,
  parts: Parameters<typeof zipCheckpoint>[1] = {},
): Uint8Array<ArrayBuffer> {
  return zipCheckpoint(record({ w: value }), parts);
}

/** A whole pickle: PROTO 2, one value, STOP. */
export function pickle(...parts: Part[]): Uint8Array<ArrayBuffer> {
  return concat([0x80, 2], ...parts, utf8("."));
}

// Zip archives

/** An entry, and false values for its headers. */
export interface EntryOptions {
  name: string;
  data: Uint8Array;
  method?: number;
  flags?: number;
  crc?: number;
  /** The size in both places of the central header. */
  size?: number;
  /** The packed size in the central header. */
  packedSize?: number;
  disk?: number;
  /** The offset of the local header in the central one. */
  localOffset?: number;
  /** The content of the local header. */
  local?: { name?: string; method?: number; flags?: number; crc?: number; size?: number; signature?: number };
  /** Whether the sizes are in zip64 extras. */
  zip64?: boolean;
  /** The extra field of the central header; by default the zip64 one, if any. */
  extra?: Uint8Array;
}

/** False values for the end of the archive. */
export interface ArchiveOptions {
  comment?: Uint8Array;
  /** Writes the zip64 end records. */
  zip64?: boolean;
  entries?: number;
  entriesOnDisk?: number;
  disk?: number;
  directoryLength?: number;
  directoryOffset?: number;
  /** Bytes between the directory and the end records. */
  gap?: number;
  end64?: { signature?: number; offset?: number; entries?: number; disks?: number };
}

/** An archive as PyTorch writes it: stored, aligned to 64 bytes, sizes after the data. */
export function zip(entries: readonly EntryOptions[], options: ArchiveOptions = {}): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  const add = (...bytes: Uint8Array[]) => {
    for (const part of bytes) {
      parts.push(part);
      at += part.length;
    }
  };
  for (const entry of entries) {
    const { data, flags = 0x808, method = 0, local = {} } = entry;
    const crc = entry.crc ?? crc32(data);
    const offset = at;
    const localName = utf8(local.name ?? entry.name);
    const headerEnd = at + 30 + localName.length + 4;
    const padding = -headerEnd & 63;
    const extra = concat(utf8("FB"), little(padding, 2), new Uint8Array(padding).fill(0x5a));
    add(
      little(local.signature ?? 0x04034b50, 4),
      little(0, 2),
      little(local.flags ?? flags, 2),
      little(local.method ?? method, 2),
      little(0, 4),
      little(local.crc ?? 0, 4),
      little(local.size ?? 0, 4),
      little(local.size ?? 0, 4),
      little(localName.length, 2),
      little(extra.length, 2),
      localName,
      extra,
      data,
      little(0x08074b50, 4),
      little(crc, 4),
      little(data.length, 4),
      little(data.length, 4),
    );
    const size = entry.size ?? data.length;
    const packed = entry.packedSize ?? size;
    const name = utf8(entry.name);
    const localOffset = entry.localOffset ?? offset;
    const full = 0xffffffff;
    const fields = concat(little(size, 8), little(packed, 8), little(localOffset, 8));
    const central = entry.extra ??
      (entry.zip64 ? concat(little(1, 2), little(24, 2), fields) : new Uint8Array());
    directory.push(concat(
      little(0x02014b50, 4),
      little(0, 4),
      little(flags, 2),
      little(method, 2),
      little(0, 4),
      little(crc, 4),
      little(entry.zip64 ? full : packed, 4),
      little(entry.zip64 ? full : size, 4),
      little(name.length, 2),
      little(central.length, 2),
      little(0, 2),
      little(entry.disk ?? 0, 2),
      little(0, 6),
      little(entry.zip64 ? full : localOffset, 4),
      name,
      central,
    ));
  }
  const directoryOffset = options.directoryOffset ?? at;
  const directoryLength = options.directoryLength ?? directory.reduce((sum, part) => sum + part.length, 0);
  add(...directory, new Uint8Array(options.gap ?? 0));
  const count = options.entries ?? entries.length;
  const onDisk = options.entriesOnDisk ?? count;
  const disk = options.disk ?? 0;
  if (options.zip64) {
    const { signature = 0x06064b50, offset = at, disks = 1 } = options.end64 ?? {};
    const count64 = options.end64?.entries ?? count;
    const head = [little(signature, 4), little(44, 8), little(0, 4), little(disk, 4), little(disk, 4)];
    const sizes = [count64, count64, directoryLength, directoryOffset].map((value) => little(value, 8));
    add(...head, ...sizes);
    add(little(0x07064b50, 4), little(disk, 4), little(offset, 8), little(disks, 4));
  }
  const small = (value: number, bytes: number) => options.zip64 ? little(-1, bytes) : little(value, bytes);
  const comment = options.comment ?? new Uint8Array();
  add(
    little(0x06054b50, 4),
    little(disk, 2),
    little(disk, 2),
    small(onDisk, 2),
    small(count, 2),
    small(directoryLength, 4),
    small(directoryOffset, 4),
    little(comment.length, 2),
    comment,
  );
  return concat(...parts);
}

// Checkpoints

/** Further parts of a zip checkpoint. */
export interface CheckpointParts {
  storages?: Record<string, Uint8Array>;
  /** The record `version`; null for none. */
  version?: string | null;
  /** The record `byteorder`; null for none. */
  byteorder?: string | null;
  more?: EntryOptions[];
  /** Overrides of data.pkl's entry. */
  pickleEntry?: Partial<EntryOptions>;
  archive?: ArchiveOptions;
}

/** Four floats: 0, 1, 2, 3. */
export const FLOATS: Uint8Array<ArrayBuffer> = new Uint8Array(Float32Array.of(0, 1, 2, 3).buffer);

/** A zip checkpoint whose object is `value`; its storage "0" is {@linkcode FLOATS} by default. */
export function zipCheckpoint(value: Part, parts: CheckpointParts = {}): Uint8Array<ArrayBuffer> {
  const { storages = { 0: FLOATS }, version = "3\n", byteorder = "little" } = parts;
  const entries: EntryOptions[] = [
    { name: "model/data.pkl", data: pickle(value), ...parts.pickleEntry },
    ...Object.entries(storages).map(([key, data]) => ({ name: `model/data/${key}`, data })),
    ...(parts.more ?? []),
  ];
  if (byteorder !== null) entries.push({ name: "model/byteorder", data: utf8(byteorder) });
  if (version !== null) entries.push({ name: "model/version", data: utf8(version) });
  return zip(entries, parts.archive);
}

/** A storage of a legacy checkpoint. */
export interface LegacyStorage {
  key: string;
  data: Uint8Array;
  /** The number of elements that precedes it. */
  count: number | bigint;
}

/** A legacy checkpoint whose object is `value`. */
export function legacyCheckpoint(
  value: Part,
  storages: readonly LegacyStorage[],
  options: { magic?: bigint; protocol?: number; keys?: Part; system?: Part; littleEndian?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const { magic = 0x1950a86a20f9469cfc6cn, protocol = 1001, littleEndian = true } = options;
  return concat(
    pickle(int(magic)),
    pickle(int(protocol)),
    pickle(options.system ?? record({ little_endian: bool(littleEndian) })),
    pickle(value),
    pickle(options.keys ?? list(...storages.map(({ key }) => str(key)))),
    ...storages.flatMap(({ count, data }) => [little(count, 8), data]),
  );
}
