/**
 * What a pickle holds, as plain data. Nothing here does anything: a call is the record of a call, a global is
 * a name, and neither is ever looked up or run.
 */
import { quote } from "../base/text.ts";
import { PickleGlobal } from "./globals.ts";

/** A value of a pickle. `None` is null; an int is a number where it is safe, else a bigint. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleFloat
  | PickleBytes
  | PickleTuple
  | PickleList
  | PickleSet
  | PickleDict
  | PickleGlobal
  | PickleCall
  | PickleOther
  | PersistentId;

/** A float; apart from ints, since 2.0 is no size and no index. */
export class PickleFloat {
  /** Holds `value`. */
  constructor(readonly value: number) {}
}

/** Bytes, or a str of Python 2 that is not UTF-8. */
export class PickleBytes {
  /**
   * Holds `bytes`, a view of the pickle.
   *
   * @param type the Python type
   */
  constructor(readonly type: "bytes" | "bytearray", readonly bytes: Uint8Array) {}
}

/** A tuple. */
export class PickleTuple {
  /** Holds `items`. */
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A list. */
export class PickleList {
  /** Holds `items`; more can be added. */
  constructor(readonly items: PickleValue[] = []) {}
}

/** A set or frozenset. */
export class PickleSet {
  /** Holds `items`; more can be added. */
  constructor(readonly type: "set" | "frozenset", readonly items: PickleValue[] = []) {}
}

/** A dict, OrderedDict, defaultdict or Counter, not yet looked through: keys may repeat or be unhashable in Python. */
export class PickleDict {
  /**
   * Makes a dict.
   *
   * @param type the Python type: "dict", "collections.OrderedDict", …
   * @param initial what its constructor was given: for an OrderedDict of Python 2 a list of pairs, else a dict that
   * was not made of another one. Kept as it is, since one list can be given to a million constructors.
   * @param entries keys and values by turns, in the order in which they were set; more can be added
   */
  constructor(
    readonly type: string,
    readonly initial: PickleList | PickleDict | null = null,
    readonly entries: PickleValue[] = [],
  ) {}
}

/**
 * The record of a call, or of a new object, that was not made. Of an unknown class it is an inert value: it keeps what
 * the pickle gives to the object, for the tensors in it to be counted or found.
 */
export class PickleCall {
  /** Keyword arguments, where the pickle has them. */
  keywords: PickleValue | undefined = undefined;
  /** What BUILD would have handed to the object. */
  state: PickleValue | undefined = undefined;
  /** What APPEND and ADDITEMS would have added to it, as to a list. */
  items: PickleValue[] | undefined = undefined;
  /** What SETITEM would have set in it, as in a dict: keys and values by turns. */
  entries: PickleValue[] | undefined = undefined;

  /** Records that `callee` would be called with `args`. */
  constructor(readonly callee: PickleGlobal, readonly args: readonly PickleValue[]) {}
}

/** A value of which nothing but a few words are kept. */
export class PickleOther {
  /** Holds these words. */
  constructor(readonly what: string) {}
}

/** Something kept outside the pickle; in a checkpoint, a storage. */
export class PersistentId {
  /**
   * Holds what names it.
   *
   * @param index how many the pickle has before it
   */
  constructor(readonly id: PickleValue, readonly index: number) {}
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
  if (value instanceof PickleBytes) return value.type;
  if (value instanceof PickleTuple) return `tuple of ${count(value.items.length, "value")}`;
  if (value instanceof PickleList) return `list of ${count(value.items.length, "value")}`;
  if (value instanceof PickleSet) return value.type;
  if (value instanceof PickleDict) {
    return `${pythonName(value.type)} of ${count(dictSize(value), "entry", "entries")}`;
  }
  if (value instanceof PickleCall) {
    const { entries, items } = value;
    const size = entries
      ? ` of ${count(entries.length / 2, "entry", "entries")}`
      : items
      ? ` of ${count(items.length, "value")}`
      : "";
    return pythonName(typeOf(value)) + size;
  }
  if (value instanceof PersistentId) return "storage";
  if (value instanceof PickleOther) return value.what;
  switch (value.role) {
    case "dtype":
    case "storage":
      return `${value.role} ${value.path}`;
    default:
      return `function or class ${pythonName(value.path)}`;
  }
}

/** The class of what a call would make, as far as that is known. */
function typeOf({ callee, args }: PickleCall): string {
  // NumPy saves arrays and scalars by functions whose names say nothing of that.
  const [, name] = /^numpy\.(?:_?core)\.\w+\.(_reconstruct|_frombuffer|scalar)$/.exec(callee.path) ?? [];
  if (name === "_reconstruct" && args[0] instanceof PickleGlobal) return args[0].path;
  return name === "scalar" ? "numpy scalar" : name === undefined ? callee.path : "numpy.ndarray";
}

/** How many entries a dict was given; a key given twice counts twice. */
export function dictSize({ initial, entries }: PickleDict): number {
  const given = initial instanceof PickleList ? initial.items.length : (initial?.entries.length ?? 0) / 2;
  return given + entries.length / 2;
}

/** What a person calls a type or function of this path. */
function pythonName(path: string): string {
  // Protocol 2 has no opcode for bytes, and makes them out of a string.
  const name = path === "_codecs.encode" ? "bytes" : path.replace(/^(builtins|collections)\./, "");
  return quote(name).slice(1, -1); // a hostile file can have any text as a name
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}
