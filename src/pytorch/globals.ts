/**
 * The globals of a pickle: names of functions and classes. Those that tensors are made with have a role here; every
 * other one is inert. Nothing is ever imported, looked up elsewhere, or called.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";

/** What a global stands for: what it means for a tensor. */
export type GlobalRole =
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
  /** Anything else: a value that it makes is kept as a record, and is not a tensor. */
  | "inert";

/** A global: a name with a role, and nothing behind it. */
export class PickleGlobal {
  /**
   * Makes a tag.
   *
   * @param path module and name, such as "torch._utils._rebuild_tensor_v2"
   * @param role what it stands for
   * @param dtype of a storage or dtype: the safetensors dtype; none for UntypedStorage and where there is no
   * such
   * @param unit of a storage: bytes of an element; of another one: 0
   * @param what of what a safetensors file cannot hold: a few words on its tensors, such as "quantised tensor"
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

/** Storages of dtypes that safetensors does not have: bytes of an element, and what their tensors are. */
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

/** Modules under the names that they had when a pickle was written: in Python 2, and in older PyTorch. */
const RENAMED: ReadonlyMap<string, string> = new Map([
  ["__builtin__", "builtins"],
  ["copy_reg", "copyreg"],
  ["torch.tensor", "torch._tensor"],
  ["torch.cuda", "torch"],
]);

/** The tag of a global by its module and name: one of the table, or one without a meaning for tensors. */
export function findGlobal(module: string, name: string): PickleGlobal {
  const path = `${RENAMED.get(module) ?? module}.${name}`;
  return TABLE.get(path) ?? new PickleGlobal(path, "inert");
}

/** A function or class that the pickle computes: there is no name for it. */
export const COMPUTED: PickleGlobal = new PickleGlobal("value of a computed type", "inert");
