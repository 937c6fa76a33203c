/**
 * The globals that a checkpoint of tensors may name. Each is an inert tag out of this table: a name that is
 * not in it is an error, and nothing is ever imported, looked up elsewhere, or called.
 */
import type { DType } from "../format/dtype.ts";

/** What a global stands for: what may be done with it, and what it means for a tensor. */
export type GlobalRole =
  /** A dict type. */
  | "dict"
  /** A function that makes a tensor out of a storage. */
  | "tensor"
  /** A function or class that wraps a tensor. */
  | "wrapper"
  /** A function or class that makes a value of no interest here. */
  | "value"
  /** A class that is only named. */
  | "class"
  /** A storage type. */
  | "storage"
  /** An element type. */
  | "dtype"
  /** Something PyTorch knows and no safetensors file can hold. */
  | "unsupported";

/** A global: a name with a role, and nothing behind it. */
export class PickleGlobal {
  /**
   * Makes a tag.
   *
   * @param path module and name, such as "torch._utils._rebuild_tensor_v2"
   * @param role what it stands for
   * @param dtype of a storage or dtype: the safetensors dtype; none for UntypedStorage and where there is no
   * such
   * @param what of something unsupported: what it is
   */
  constructor(
    readonly path: string,
    readonly role: GlobalRole,
    readonly dtype?: DType,
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

const UNSUPPORTED: Readonly<Record<string, string>> = {
  "torch.ComplexDoubleStorage": "complex128 tensors (ComplexDouble)",
  "torch.QInt8Storage": "quantised tensors",
  "torch.QInt32Storage": "quantised tensors",
  "torch.QUInt8Storage": "quantised tensors",
  "torch.QUInt4x2Storage": "quantised tensors",
  "torch.QUInt2x4Storage": "quantised tensors",
  "torch._utils._rebuild_qtensor": "quantised tensors",
  "torch._utils._rebuild_sparse_tensor": "sparse tensors",
  "torch._utils._rebuild_sparse_csr_tensor": "sparse tensors",
  "torch._utils._rebuild_meta_tensor_no_storage": "meta tensors, which have no data",
  "torch._utils._rebuild_nested_tensor": "nested tensors",
  "torch._utils._rebuild_wrapper_subclass": "tensors of a wrapper subclass",
  "torch._utils._rebuild_device_tensor_from_numpy": "tensors of a device that PyTorch saves as NumPy arrays",
  "torch._utils._rebuild_device_tensor_from_cpu_tensor": "tensors of a device without storages",
  "torch.storage.TypedStorage": "bare storages",
  "torch.storage._load_from_bytes": "bare storages",
};

const TABLE = new Map<string, PickleGlobal>();

function list(role: GlobalRole, paths: readonly string[]): void {
  for (const path of paths) TABLE.set(path, new PickleGlobal(path, role));
}

function listTypes(role: "storage" | "dtype", types: Readonly<Record<string, DType>>): void {
  for (const [name, dtype] of Object.entries(types)) {
    TABLE.set(`torch.${name}`, new PickleGlobal(`torch.${name}`, role, dtype));
  }
}

list("dict", ["collections.OrderedDict", "collections.Counter"]);
list(
  "tensor",
  ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"].map((name) => `torch._utils.${name}`),
);
list("wrapper", ["torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"]);
list("wrapper", ["torch._tensor._rebuild_from_type_v2", "torch.nn.parameter.Parameter"]);
list("value", ["torch.Size", "torch.device", "_codecs.encode"]);
list("value", ["builtins.set", "builtins.bytearray", "builtins.complex"]);
list("class", ["torch.Tensor"]);
list("storage", ["torch.storage.UntypedStorage"]);
list("dtype", DTYPES_WITHOUT_EQUIVALENT.map((name) => `torch.${name}`));
listTypes("storage", STORAGES);
listTypes("dtype", DTYPES);
for (const [path, what] of Object.entries(UNSUPPORTED)) {
  TABLE.set(path, new PickleGlobal(path, "unsupported", undefined, what));
}

/** Where the classes of PyTorch's modules live: a global from here means that a whole module was saved. */
const MODULES = "torch.nn.modules";
const WHOLE_MODULE = new PickleGlobal(
  MODULES,
  "unsupported",
  undefined,
  "a whole module rather than its state_dict()",
);

/** The tag of a global by its module and name, or undefined where it is not listed. */
export function findGlobal(module: string, name: string): PickleGlobal | undefined {
  // Python 2's name of the module, which pickles of protocol 2 keep.
  const path = `${module === "__builtin__" ? "builtins" : module}.${name}`;
  return TABLE.get(path) ?? (`${module}.`.startsWith(`${MODULES}.`) ? WHOLE_MODULE : undefined);
}

/** The tag of `builtins.set`, for the opcode that makes an empty one. */
export const SET: PickleGlobal = TABLE.get("builtins.set")!;
