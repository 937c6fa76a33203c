/**
 * The values of a pickle as plain data. A call is only a record, a global is only a name; neither is looked up or
 * run.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

/* ---- The globals of a pickle: names of functions and classes. Tensors need some of them; the others are inert
 * ---- */

/** The meaning of a global for tensors. */
type GlobalRole =
  /** A dict type. */
  | "dict"
  /** A function that makes a tensor out of a storage. */
  | "tensor"
  /** A function or class that wraps a tensor. */
  | "wrapper"
  /** A class of tensors as PyTorch saved them before 0.4: their state has the storage. */
  | "tensor class"
  /** A storage type. */
  | "storage"
  /** An element type. */
  | "dtype"
  /** A function that makes a tensor that no safetensors file can hold. */
  | "unsupported"
  /** Anything else: its values are stored as records, and are not tensors. */
  | "inert";

/** A global: a name with a role. */
export class PickleGlobal {
  /**
   * Makes a tag.
   *
   * @param path module and name, such as "torch._utils._rebuild_tensor_v2"
   * @param role its meaning for tensors
   * @param dtype of a storage or dtype: the safetensors dtype; none for UntypedStorage and for a dtype that
   * safetensors does not have
   * @param unit of a storage: bytes of an element, or 0 if unknown
   * @param what of a tensor that a safetensors file cannot hold: a short description, such as "quantised tensor"
   */
  constructor(
    readonly path: string,
    readonly role: GlobalRole,
    readonly dtype?: DType,
    readonly unit: number = 0,
    readonly what?: string,
  ) {}
}

const STORAGES: Readonly<Record<string, DType>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
  ComplexFloatStorage: "C64",
};

const DTYPES: Readonly<Record<string, DType>> = {
  float64: "F64",
  float32: "F32",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint64: "U64",
  uint32: "U32",
  uint16: "U16",
  uint8: "U8",
  bool: "BOOL",
  complex64: "C64",
  float8_e4m3fn: "F8_E4M3",
  float8_e5m2: "F8_E5M2",
  float8_e8m0fnu: "F8_E8M0",
  float8_e4m3fnuz: "F8_E4M3FNUZ",
  float8_e5m2fnuz: "F8_E5M2FNUZ",
  float4_e2m1fn_x2: "F4",
};

const DTYPES_WITHOUT_EQUIVALENT = [
  ...["complex32", "complex128", "qint8", "qint32", "quint8", "quint4x2", "quint2x4"],
  ...["bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"],
  ...[1, 2, 3, 4, 5, 6, 7].flatMap((bits) => [`int${bits}`, `uint${bits}`]),
];

/** Storages of dtypes that safetensors does not have: bytes of an element, and a description of their tensors. */
const OTHER_STORAGES: Readonly<Record<string, readonly [unit: number, what: string]>> = {
  ComplexDoubleStorage: [16, "complex128 tensor"],
  QInt8Storage: [1, "quantised tensor"],
  QInt32Storage: [4, "quantised tensor"],
  QUInt8Storage: [1, "quantised tensor"],
  QUInt4x2Storage: [1, "quantised tensor"],
  QUInt2x4Storage: [1, "quantised tensor"],
};

const UNSUPPORTED: Readonly<Record<string, string>> = {
  "torch._utils._rebuild_qtensor": "quantised tensor",
  "torch._utils._rebuild_sparse_tensor": "sparse tensor",
  "torch._utils._rebuild_sparse_csr_tensor": "sparse tensor",
  "torch._utils._rebuild_meta_tensor_no_storage": "meta tensor",
  "torch._utils._rebuild_nested_tensor": "nested tensor",
  "torch._utils._rebuild_wrapper_subclass": "tensor of a wrapper subclass",
  "torch._utils._rebuild_device_tensor_from_numpy": "tensor saved as a NumPy array",
  "torch._utils._rebuild_xla_tensor": "tensor saved as a NumPy array",
  "torch._utils._rebuild_device_tensor_from_cpu_tensor": "tensor of a device without storages",
  "torch.nn.parameter.UninitializedParameter": "parameter without a shape",
  "torch.nn.parameter.UninitializedBuffer": "buffer without a shape",
  "torch.storage.TypedStorage": "bare storage",
  "torch.storage._load_from_bytes": "bare storage",
};

const TABLE = new Map<string, PickleGlobal>();

function add(path: string, ...rest: [GlobalRole, DType?, number?, string?]): void {
  TABLE.set(path, new PickleGlobal(path, ...rest));
}

for (const name of ["OrderedDict", "Counter", "defaultdict"]) add(`collections.${name}`, "dict");
add("builtins.dict", "dict");
for (const name of ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"]) {
  add(`torch._utils.${name}`, "tensor");
}
for (const name of ["_rebuild_parameter", "_rebuild_parameter_with_state"]) {
  add(`torch._utils.${name}`, "wrapper");
}
for (const name of ["_rebuild_from_type", "_rebuild_from_type_v2"]) add(`torch._tensor.${name}`, "wrapper");
add("torch.nn.parameter.Parameter", "wrapper");
add("torch.storage.UntypedStorage", "storage", undefined, 1);
add("torch.Tensor", "tensor class");
for (const [name, dtype] of Object.entries(STORAGES)) {
  add(`torch.${name}`, "storage", dtype, dtypeBits(dtype) / 8);
  add(`torch.${name.replace("Storage", "Tensor")}`, "tensor class");
}
for (const [name, dtype] of Object.entries(DTYPES)) add(`torch.${name}`, "dtype", dtype);
for (const name of DTYPES_WITHOUT_EQUIVALENT) add(`torch.${name}`, "dtype");
for (const [name, [unit, what]] of Object.entries(OTHER_STORAGES)) {
  add(`torch.${name}`, "storage", undefined, unit, what);
}
for (const [path, what] of Object.entries(UNSUPPORTED)) add(path, "unsupported", undefined, 0, what);

/** Older names of modules, in Python 2 and in earlier PyTorch, and the present names. */
const RENAMED: ReadonlyMap<string, string> = new Map([
  ["__builtin__", "builtins"],
  ["copy_reg", "copyreg"],
  ["torch.tensor", "torch._tensor"],
  ["torch.cuda", "torch"],
]);

/** The tag of a global by its module and name: from the table, or an inert one. */
export function findGlobal(module: string, name: string): PickleGlobal {
  const path = `${RENAMED.get(module) ?? module}.${name}`;
  return TABLE.get(path) ?? new PickleGlobal(path, "inert");
}

/** A function or class that the pickle computes, so that it has no name. */
export const COMPUTED: PickleGlobal = new PickleGlobal("value of a computed type", "inert");

/** A value of a pickle. `None` is null; an int is a number if it is a safe integer, else a bigint. */
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

/** A float; separate from ints, because 2.0 is not a valid size or index. */
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

/**
 * A dict, OrderedDict, defaultdict or Counter, not yet looked through: keys may repeat or be unhashable in Python.
 */
export class PickleDict {
  /**
   * Makes a dict.
   *
   * @param type the Python type: "dict", "collections.OrderedDict", …
   * @param initial the argument of its constructor: for an OrderedDict of Python 2 a list of pairs, else a dict or
   * undefined. It is not copied, because one list can be the argument of a million constructors.
   * @param entries alternating keys and values, in the order of their assignment; more can be added
   */
  constructor(
    readonly type: string,
    readonly initial: PickleList | PickleDict | null = null,
    readonly entries: PickleValue[] = [],
  ) {}
}

/**
 * The record of a call, or of a new object; nothing is called. For an unknown class it stores the state and items
 * of the object, so that the tensors in them can be counted or found.
 */
export class PickleCall {
  /** Keyword arguments, if the pickle has them. */
  keywords: PickleValue | undefined = undefined;
  /** The argument of BUILD for the object. */
  state: PickleValue | undefined = undefined;
  /** The items that APPEND and ADDITEMS add, as to a list. */
  items: PickleValue[] | undefined = undefined;
  /** The entries that SETITEM sets, as in a dict: alternating keys and values. */
  entries: PickleValue[] | undefined = undefined;

  /** Records that `callee` would be called with `args`. */
  constructor(readonly callee: PickleGlobal, readonly args: readonly PickleValue[]) {}
}

/** A value of which only a description is stored. */
export class PickleOther {
  /** Holds the description. */
  constructor(readonly what: string) {}
}

/** An object outside the pickle; in a checkpoint, a storage. */
export class PersistentId {
  /**
   * Holds the id.
   *
   * @param index the number of ids before it in the pickle
   */
  constructor(readonly id: PickleValue, readonly index: number) {}
}

/** Of longer strings and ints, only the length is shown. */
const MAX_SHOWN = 40;

/** Describes `value` for a message: its Python type, and the value of a short scalar. */
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

/** The class of the result of a call, as far as it is known. */
function typeOf({ callee, args }: PickleCall): string {
  // NumPy saves arrays and scalars by functions whose names do not mention it.
  const [, name] = /^numpy\.(?:_?core)\.\w+\.(_reconstruct|_frombuffer|scalar)$/.exec(callee.path) ?? [];
  if (name === "_reconstruct" && args[0] instanceof PickleGlobal) return args[0].path;
  return name === "scalar" ? "numpy scalar" : name === undefined ? callee.path : "numpy.ndarray";
}

/** The number of entries of a dict; a key that is set twice counts twice. */
export function dictSize({ initial, entries }: PickleDict): number {
  const given = initial instanceof PickleList ? initial.items.length : (initial?.entries.length ?? 0) / 2;
  return given + entries.length / 2;
}

/** The usual name of the type or function with this path. */
function pythonName(path: string): string {
  // Protocol 2 has no opcode for bytes, and makes them from a string.
  const name = path === "_codecs.encode" ? "bytes" : path.replace(/^(builtins|collections)\./, "");
  return quote(name).slice(1, -1); // the name in a hostile file can be any text
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

/* ---- The keys of a dict as text, as by Python's `str()` ---- */

/** Deeper tuples, and tuples with more items in all than this, are abbreviated. */
const MAX_DEPTH = 4;
const MAX_ITEMS = 64;
/** Longer strings in a tuple, and longer bytes anywhere, are abbreviated. */
const MAX_LENGTH = 256;

/** The name of the value with this key. */
export function keyText(key: PickleValue): string {
  return typeof key === "string" ? key : repr(key, 0, { items: MAX_ITEMS });
}

function repr(value: PickleValue, depth: number, left: { items: number }): string {
  left.items--;
  switch (typeof value) {
    case "string":
      return value.length > MAX_LENGTH
        ? "…"
        : quoted(Array.from(value, (character) => character.codePointAt(0)!), true);
    case "number":
    case "bigint":
      return String(value);
    case "boolean":
      return value ? "True" : "False";
  }
  if (value === null) return "None";
  if (value instanceof PickleFloat) return floatText(value.value);
  if (value instanceof PickleBytes && value.type === "bytes" && value.bytes.length <= MAX_LENGTH) {
    return `b${quoted([...value.bytes], false)}`;
  }
  if (value instanceof PickleTuple && depth < MAX_DEPTH && value.items.length <= left.items) {
    const items = value.items.map((item) => repr(item, depth + 1, left));
    return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
  }
  return value instanceof PickleGlobal ? value.path : describe(value);
}

/** A literal of Python. */
function quoted(codes: readonly number[], text: boolean): string {
  const mark = codes.includes(0x27) && !codes.includes(0x22) ? '"' : "'";
  const body = codes.map((code) => {
    if (code === 0x5c) return "\\\\";
    if (code === mark.charCodeAt(0)) return `\\${mark}`;
    if (code === 0x0a) return "\\n";
    if (code === 0x0d) return "\\r";
    if (code === 0x09) return "\\t";
    const shown = code >= 0x20 && code < 0x7f || text && code > 0xa0;
    return shown ? String.fromCodePoint(code) : `\\x${code.toString(16).padStart(2, "0")}`;
  });
  return mark + body.join("") + mark;
}

/**
 * The digits are those of JavaScript; Python uses exponents for other numbers, and writes whole floats with ".0".
 */
function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  }
  if (!Number.isInteger(value)) return String(value);
  return `${Object.is(value, -0) ? "-0" : value}.0`;
}
