/**
 * Makes a tensor's description from the record of the call that makes it in PyTorch, and validates every field.
 */
import type { SafeTensorsError } from "../base/errors.ts";
import { type DType, dtypeBits } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { checkpointError, type CheckpointErrorCode, expansionLimit, limitError } from "./errors.ts";
import {
  type CheckpointTensor,
  type Container,
  elementCount,
  isCount,
  type StorageView,
} from "./storages.ts";
import {
  describe,
  PersistentId,
  PickleCall,
  PickleDict,
  PickleGlobal,
  PickleList,
  PickleTuple,
  type PickleValue,
} from "./pickle_value.ts";

/** The most dimensions of a tensor; PyTorch itself has this limit. */
const MAX_RANK = 64;

/** How many wrappers a tensor may have around it: a parameter of a subclass has two. */
const MAX_WRAPPERS = 8;

/** The dtypes whose sign is one bit, so that flipping it negates an element. */
const NEGATABLE: ReadonlySet<DType> = new Set<DType>(["F16", "BF16", "F32", "F64", "C64"]);

/** The data that tensors are rebuilt from. */
interface RebuildContext {
  /** The file, for messages. */
  readonly path: string;
  /** The file's content. */
  readonly container: Container;
  /** The most bytes of a tensor that is larger than 64 times its storage. */
  readonly maxExpandedBytes: number;
}

/** A tensor that cannot be read, although others of its file can. */
interface RefusedTensor {
  /** A short description. */
  readonly kind: string;
  /** The error to throw for a request. */
  readonly error: SafeTensorsError;
}

/** Whether `value` is the record of a tensor, also of one that cannot be read, such as a bare storage. */
export function isTensor(value: PickleValue): value is PickleCall | PersistentId {
  if (value instanceof PersistentId) return true;
  if (!(value instanceof PickleCall)) return false;
  switch (value.callee.role) {
    case "tensor":
    case "wrapper":
    case "unsupported":
      return true;
    case "tensor class":
      return value.state instanceof PickleTuple && value.state.items.length === 4;
    default:
      return false;
  }
}

/**
 * Describes the tensor of `value`, or the reason why it cannot be read.
 *
 * @throws {SafeTensorsError} if the file contradicts itself: "InvalidPickle" if the call's arguments are not those
 * of its function, "InvalidCheckpoint" if the tensor does not fit its storage
 */
export function rebuildTensor(
  value: PickleCall | PersistentId,
  name: string,
  context: RebuildContext,
): CheckpointTensor | RefusedTensor {
  try {
    return new Rebuild(name, context).tensor(value);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
}

/** Ends the work on a tensor that cannot be read. */
class Refusal extends Error implements RefusedTensor {
  constructor(readonly kind: string, readonly error: SafeTensorsError) {
    super(error.message);
  }
}

/** The arguments of the functions that make a tensor from a storage. */
interface TensorArguments {
  readonly storage: PickleValue;
  readonly offset: PickleValue;
  readonly size: PickleValue;
  readonly stride: PickleValue;
  /** Only for a storage of bytes. */
  readonly dtype: PickleValue | undefined;
  readonly metadata: PickleValue;
}

class Rebuild {
  readonly #name: string;
  readonly #context: RebuildContext;

  constructor(name: string, context: RebuildContext) {
    this.#name = name;
    this.#context = context;
  }

  tensor(value: PickleCall | PersistentId): CheckpointTensor {
    if (value instanceof PersistentId) {
      throw this.#unsupported("it is a bare storage, without a dtype and a shape", "bare storage");
    }
    // A header is UTF-8, which cannot hold half of a surrogate pair.
    if (!this.#name.isWellFormed()) throw this.#unsupported("its name is not text that UTF-8 can hold");
    const args = this.#arguments(this.#unwrap(value));
    const view = this.#view(args.storage);
    const dtype = this.#dtype(args.dtype, view);
    const shape = this.#counts(args.size, "size");
    const strides = this.#counts(args.stride, "stride");
    if (shape.length !== strides.length) {
      throw this.#invalid(`it has ${shape.length} dimensions but ${strides.length} strides`);
    }
    if (!isCount(args.offset)) throw this.#invalid(`its storage offset is ${describe(args.offset)}`);
    // PyTorch slices empty tensors to any offset, so their offset has no meaning.
    const offset = shape.includes(0) ? 0 : args.offset;
    this.#checkBounds(shape, strides, offset, dtype, view);

    const { container } = this.#context;
    const { key } = view.storage;
    const { start, packed } = container.places.get(key)!;
    const contiguous = isContiguous(shape, strides);
    return {
      name: this.#name,
      dtype,
      ...(dtype === "F4" ? this.#unpackedShape(shape, contiguous) : { shape, strides }),
      fileOffset: start + view.offset + offset * unitBytes(dtype),
      storage: key,
      storageStart: start,
      storageBytes: view.storage.bytes,
      ...packed ? { packed } : {},
      contiguous,
      byteSwap: container.bigEndian ? componentSwap(dtype) : 0,
      ...this.#pending(args.metadata, dtype),
    };
  }

  /** The call inside the wrappers of a parameter or of a tensor subclass. */
  #unwrap(call: PickleCall): PickleCall {
    for (let depth = 0; depth <= MAX_WRAPPERS; depth++) {
      const { callee, state, args: [first, , args] } = call;
      if (callee.role === "unsupported") {
        throw this.#unsupported(`it is a ${callee.what}, which no safetensors file can hold`, callee.what);
      }
      if (callee.role === "inert") {
        throw this.#unsupported(
          `it is made by ${quote(callee.path)}, an unknown function, which is not run`,
        );
      }
      if (callee.role === "tensor class") return call;
      const variable = variableData(call);
      if (state !== undefined && variable === undefined && !isGradientState(state)) {
        throw this.#unsupported("its Python object has a state of its own");
      }
      if (callee.role === "tensor") return call;
      if (callee.path.startsWith("torch._tensor._rebuild_from_type")) {
        if (!(first instanceof PickleGlobal) || !(args instanceof PickleTuple)) throw this.#misused(call);
        call = new PickleCall(first, args.items);
      } else {
        const inner = variable ?? first;
        if (!(inner instanceof PickleCall)) throw this.#misused(call);
        call = inner;
      }
      if (call.callee.role === "storage" || call.callee.role === "dtype" || call.callee.role === "dict") {
        throw this.#misused(call);
      }
    }
    throw this.#pickle("its parameter is wrapped too often");
  }

  #arguments(call: PickleCall): TensorArguments {
    const { args, callee, state } = call;
    const given = callee.role === "tensor class" && state instanceof PickleTuple ? state.items : args;
    const [storage = null, offset = null, size = null, stride = null] = given;
    const common = { storage, offset, size, stride };
    // The arguments between, requires_grad and the backward hooks, do not affect the data.
    switch (callee.path) {
      case "torch._utils._rebuild_tensor":
        if (args.length !== 4) break;
        return { ...common, dtype: undefined, metadata: null };
      case "torch._utils._rebuild_tensor_v2":
        if (args.length !== 6 && args.length !== 7) break;
        return { ...common, dtype: undefined, metadata: args[6] ?? null };
      case "torch._utils._rebuild_tensor_v3":
        if (args.length !== 7 && args.length !== 8) break;
        return { ...common, dtype: args[6]!, metadata: args[7] ?? null };
      default:
        if (given.length !== 4) break;
        return { ...common, dtype: undefined, metadata: null };
    }
    throw this.#misused(call);
  }

  #view(storage: PickleValue): StorageView {
    const view = storage instanceof PersistentId
      ? this.#context.container.storages.views[storage.index]
      : undefined;
    if (view === undefined) throw this.#pickle(`it is made of ${describe(storage)}: a storage expected`);
    if ("reason" in view) throw this.#unsupported(view.reason);
    return view;
  }

  /** The dtype of the storage, or of the call for a storage of bytes. */
  #dtype(given: PickleValue | undefined, { type }: StorageView): DType {
    if (type.what !== undefined) {
      throw this.#unsupported(`it is a ${type.what}, which no safetensors file can hold`, type.what);
    }
    if (given === undefined) {
      if (type.dtype === undefined) {
        throw this.#pickle(`its storage is ${type.path}, and nothing says its dtype`);
      }
      return type.dtype;
    }
    if (!(given instanceof PickleGlobal) || given.role !== "dtype") {
      throw this.#pickle(`its dtype is ${describe(given)}`);
    }
    if (type.dtype !== undefined) throw this.#pickle(`it is ${given.path}, but its storage is ${type.path}`);
    if (given.dtype === undefined) {
      const what = `${given.path.replace("torch.", "")} tensor`;
      throw this.#unsupported(`no safetensors file can hold ${given.path}`, what);
    }
    return given.dtype;
  }

  /** A size or stride: a tuple, in old files also a list, or a torch.Size made of one. */
  #counts(given: PickleValue, what: "size" | "stride"): readonly number[] {
    const isSize = given instanceof PickleCall && given.callee.path === "torch.Size" &&
      given.args.length === 1;
    const counts = isSize ? given.args[0]! : given;
    if (!(counts instanceof PickleTuple || counts instanceof PickleList)) {
      throw this.#pickle(`its ${what} is ${describe(counts)}: a tuple expected`);
    }
    const { items } = counts;
    if (items.length > MAX_RANK) {
      throw this.#invalid(`it has ${items.length} dimensions: ${MAX_RANK} are allowed`);
    }
    for (const count of items) {
      if (!isCount(count)) {
        throw this.#invalid(`its ${what} holds ${describe(count)}: an int from 0 expected`);
      }
    }
    return items as readonly number[];
  }

  /** All elements must lie in the storage view, and their bytes must not exceed the expansion limit. */
  #checkBounds(
    shape: readonly number[],
    strides: readonly number[],
    offset: number,
    dtype: DType,
    view: StorageView,
  ): void {
    if (shape.includes(0)) return;
    const unit = unitBytes(dtype);
    const capacity = Math.floor(view.bytes / unit);
    // A term or sum that is not a safe integer exceeds any capacity.
    const last = shape.reduce((sum, size, i) => sum + (size - 1) * strides[i]!, offset);
    if (last >= capacity) {
      const storage = quote(view.storage.key);
      throw this.#invalid(`it reaches to element ${last}: storage ${storage} has ${capacity}`);
    }
    const bytes = elementCount(shape) * unit;
    const limit = expansionLimit(view.storage.bytes, this.#context.maxExpandedBytes);
    if (bytes > limit || !Number.isSafeInteger(bytes)) {
      const detail =
        `it takes ${bytes} bytes out of a storage of ${view.storage.bytes}: ${limit} are allowed`;
      const { path } = this.#context;
      throw this.#refused(detail, undefined, limitError(path, detail, "maxExpandedBytes", this.#name));
    }
  }

  /** PyTorch counts pairs of F4 elements, safetensors the elements. */
  #unpackedShape(
    shape: readonly number[],
    contiguous: boolean,
  ): { shape: readonly number[]; strides: readonly number[] } {
    const last = shape.at(-1);
    if (last === undefined || !contiguous) {
      throw this.#unsupported(
        "an F4 tensor must be contiguous and have a dimension, since it packs two to a byte",
      );
    }
    const unpacked = shape.with(-1, last * 2);
    return { shape: unpacked, strides: contiguousStrides(unpacked) };
  }

  /** The transformations that PyTorch postponed, recorded as metadata `{"conj": True, "neg": True}`. */
  #pending(metadata: PickleValue, dtype: DType): { conjugate: boolean; negative: boolean } {
    const pending = { conj: false, neg: false };
    if (metadata !== null && !(metadata instanceof PickleDict)) {
      throw this.#pickle(`its metadata is ${describe(metadata)}: a dict expected`);
    }
    const entries = metadata?.entries ?? [];
    if (entries.length > 4 || (metadata !== null && metadata.initial !== null)) {
      throw this.#unsupported("its metadata has more than conj and neg");
    }
    for (let i = 0; i < entries.length; i += 2) {
      const [key, value] = [entries[i]!, entries[i + 1]!];
      if ((key !== "conj" && key !== "neg") || typeof value !== "boolean") {
        throw this.#unsupported(`its metadata has ${describe(key)} as ${describe(value)}`);
      }
      pending[key] = value;
    }
    if (pending.neg && !NEGATABLE.has(dtype)) {
      throw this.#unsupported(`its elements must be negated, which ${dtype} does not support`);
    }
    // A real number is its own conjugate.
    return { conjugate: pending.conj && dtype === "C64", negative: pending.neg };
  }

  #misused(call: PickleCall): Error {
    return this.#pickle(`${call.callee.path} is called with arguments that it does not take`);
  }

  #pickle(detail: string): Error {
    return this.#error("InvalidPickle", detail);
  }

  #invalid(detail: string): Error {
    return this.#error("InvalidCheckpoint", detail);
  }

  /** For this tensor alone; `what` describes the tensor, if the detail does not. */
  #unsupported(detail: string, what?: string): Refusal {
    return this.#refused(detail, what, this.#error("UnsupportedCheckpoint", detail));
  }

  #refused(detail: string, what: string | undefined, error: SafeTensorsError): Refusal {
    return new Refusal(what ?? `tensor that cannot be read: ${detail}`, error);
  }

  #error(code: CheckpointErrorCode, detail: string): SafeTensorsError {
    return checkpointError(code, this.#context.path, detail, this.#name);
  }
}

/** The data of a Variable as PyTorch saved it before 0.4: the first of five values in its state. */
function variableData({ state }: PickleCall): PickleValue | undefined {
  return state instanceof PickleTuple && state.items.length === 5 ? state.items[0] : undefined;
}

/** Whether a state holds only requires_grad and the backward hooks, which do not affect the data. */
function isGradientState(state: PickleValue): boolean {
  return state instanceof PickleTuple && state.items.length === 3 && typeof state.items[0] === "boolean";
}

/** The bytes that PyTorch counts as one element: of F4, a pair. */
function unitBytes(dtype: DType): number {
  return Math.max(1, dtypeBits(dtype) / 8);
}

/** The bytes to reverse in each element of a big-endian file; a complex number is two components. */
function componentSwap(dtype: DType): 0 | 2 | 4 | 8 {
  const bytes = dtype === "C64" ? 4 : unitBytes(dtype);
  return bytes === 1 ? 0 : bytes as 2 | 4 | 8;
}

/** The strides of a contiguous tensor of this shape, in elements. */
function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= Math.max(1, shape[i]!);
  }
  return strides;
}

/** Whether the elements lie one after another; the stride of a dimension of size 1 has no meaning. */
function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  const expected = contiguousStrides(shape);
  return shape.every((size, i) => size === 1 || strides[i] === expected[i]);
}
