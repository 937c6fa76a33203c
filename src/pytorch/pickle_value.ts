/**
 * What a pickle holds, as plain data. Nothing here does anything: a call is the record of a call, a global is
 * a tag from our own table, and neither is ever looked up or run.
 */
import { quote } from "../format/text.ts";
import type { PickleGlobal } from "./globals.ts";

/** A value of a pickle. `None` is null; an int is a number where it is safe, else a bigint. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleFloat
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleCall
  | PersistentId;

/** A float; apart from ints, since 2.0 is no size and no index. */
export class PickleFloat {
  /** Holds `value`. */
  constructor(readonly value: number) {}
}

/** A tuple. */
export class PickleTuple {
  /** Holds `items`. */
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A list. */
export class PickleList {
  /** Its items. */
  readonly items: PickleValue[] = [];
}

/** A dict, OrderedDict or Counter, not yet looked through: keys may repeat or be unhashable in Python. */
export class PickleDict {
  /** Keys and values by turns, in the order in which they were set. */
  readonly entries: PickleValue[] = [];

  /**
   * Makes a dict without entries of its own.
   *
   * @param type the Python type: "dict", "collections.OrderedDict", "collections.Counter"
   * @param initial what its constructor was given: for an OrderedDict of Python 2 a list of pairs, for a
   * Counter a dict. Kept as it is, since one list can be given to a million constructors.
   */
  constructor(readonly type: string, readonly initial: PickleList | PickleDict | null = null) {}
}

/** The record of a call, or of a new object, that was not made. */
export class PickleCall {
  /** What BUILD would have handed to the object. */
  state: PickleValue | undefined = undefined;

  /** Records that `callee` would be called with `args`. */
  constructor(readonly callee: PickleGlobal, readonly args: readonly PickleValue[]) {}
}

/** Something kept outside the pickle; in a checkpoint, a storage. */
export class PersistentId {
  /** Holds what names it. */
  constructor(readonly id: PickleValue) {}
}

/** Longer strings and ints are not shown, only measured. */
const MAX_SHOWN = 40;

/** A few words on `value` for a person: its Python type, and for short scalars what it is. */
export function describe(value: PickleValue): string {
  if (value === null) return "None";
  switch (typeof value) {
    case "boolean":
      return value ? "bool True" : "bool False";
    case "number":
      return `int ${value}`;
    case "bigint":
      return String(value).length <= MAX_SHOWN ? `int ${value}` : "int of many digits";
    case "string":
      return value.length <= MAX_SHOWN ? `str ${quote(value)}` : `str of ${value.length} characters`;
  }
  if (value instanceof PickleFloat) return `float ${value.value}`;
  if (value instanceof PickleTuple) return `tuple of ${count(value.items.length, "value")}`;
  if (value instanceof PickleList) return `list of ${count(value.items.length, "value")}`;
  if (value instanceof PickleDict) {
    return `${pythonName(value.type)} of ${count(dictSize(value), "entry", "entries")}`;
  }
  if (value instanceof PickleCall) return pythonName(value.callee.path);
  if (value instanceof PersistentId) return "storage";
  return `${value.role} ${value.path}`;
}

/** How many entries a dict was given; a key given twice counts twice. */
export function dictSize(dict: PickleDict): number {
  const { initial, entries } = dict;
  const given = initial instanceof PickleList ? initial.items.length : (initial?.entries.length ?? 0) / 2;
  return given + entries.length / 2;
}

/** What a person calls a type or function of this path. */
function pythonName(path: string): string {
  // Protocol 2 has no opcode for bytes, and makes them out of a string.
  return path === "_codecs.encode" ? "bytes" : path.replace(/^(builtins|collections)\./, "");
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}
