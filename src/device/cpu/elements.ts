/**
 * The typed arrays of the dtypes.
 */
import { describeValue } from "../../base/check.ts";
import type { DType } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";

/** Dtype → the typed array over its elements; floats without a typed array, and of less than a byte, are bytes. */
export type ArrayByDType<B extends ArrayBufferLike = ArrayBuffer> = {
  BOOL: Uint8Array<B>;
  F4: Uint8Array<B>;
  F6_E2M3: Uint8Array<B>;
  F6_E3M2: Uint8Array<B>;
  U8: Uint8Array<B>;
  I8: Int8Array<B>;
  F8_E5M2: Uint8Array<B>;
  F8_E4M3: Uint8Array<B>;
  F8_E8M0: Uint8Array<B>;
  F8_E4M3FNUZ: Uint8Array<B>;
  F8_E5M2FNUZ: Uint8Array<B>;
  I16: Int16Array<B>;
  U16: Uint16Array<B>;
  F16: Float16Array<B>;
  BF16: Uint16Array<B>;
  I32: Int32Array<B>;
  U32: Uint32Array<B>;
  F32: Float32Array<B>;
  C64: Float32Array<B>;
  F64: Float64Array<B>;
  I64: BigInt64Array<B>;
  U64: BigUint64Array<B>;
};

/** The typed array over the elements of a tensor of dtype `D`: that of any dtype by default. */
export type TensorData<D extends DType = DType> = ArrayByDType[D];

/** The views of bytes, without an element type. */
export type ByteView = Uint8Array | Uint8ClampedArray | DataView;

/** The views that can give the elements of a tensor of dtype `D`: its typed array, bytes, or the bits of an F16. */
export type TensorView<D extends DType = DType> =
  | ArrayByDType<ArrayBufferLike>[D]
  | ByteView
  | (D extends "F16" ? Uint16Array : never);

type ArrayClass<A = TensorData> = {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): A;
  readonly BYTES_PER_ELEMENT: number;
  readonly name: string;
};

const ARRAYS: { readonly [D in DType]: ArrayClass<TensorData<D>> } = {
  BOOL: Uint8Array,
  F4: Uint8Array,
  F6_E2M3: Uint8Array,
  F6_E3M2: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  F8_E5M2: Uint8Array,
  F8_E4M3: Uint8Array,
  F8_E8M0: Uint8Array,
  F8_E4M3FNUZ: Uint8Array,
  F8_E5M2FNUZ: Uint8Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Float16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  C64: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
};

/** The dtypes that a typed array determines: the elements of others are in an array of these too. */
export type ArrayDType = "I8" | "U8" | "I16" | "U16" | "F16" | "I32" | "U32" | "F32" | "F64" | "I64" | "U64";

/** The dtype that the typed array `A` determines. */
export type DTypeOfArray<A> = {
  [D in ArrayDType]: A extends ArrayByDType<ArrayBufferLike>[D] ? D : never;
}[ArrayDType];

/** The name of a typed array's class → the dtype that it determines. */
const DTYPE_OF_ARRAY: { readonly [D in ArrayDType as TensorData<D>[typeof Symbol.toStringTag]]: D } = {
  Int8Array: "I8",
  Uint8Array: "U8",
  Int16Array: "I16",
  Uint16Array: "U16",
  Float16Array: "F16",
  Int32Array: "I32",
  Uint32Array: "U32",
  Float32Array: "F32",
  Float64Array: "F64",
  BigInt64Array: "I64",
  BigUint64Array: "U64",
};

/** Views of bytes, without an element type. */
const BYTES: readonly string[] = ["Uint8Array", "Uint8ClampedArray", "DataView"];

/** Makes the typed array of a dtype over bytes, whose offset is a multiple of the size of its elements. */
export function arrayOver<D extends DType>(dtype: D, bytes: Uint8Array<ArrayBuffer>): TensorData<D> {
  const type: ArrayClass<TensorData<D>> = ARRAYS[dtype];
  const { buffer, byteOffset, byteLength } = bytes;
  if (byteLength === 0) return new type(new ArrayBuffer(0), 0, 0); // its offset can be unaligned
  return new type(buffer, byteOffset, byteLength / type.BYTES_PER_ELEMENT);
}

/** Returns the dtype that the class of a typed array determines; undefined if it determines none. */
export function dtypeOfArray(data: ArrayBufferView): DType | undefined {
  const name = arrayName(data);
  return Object.hasOwn(DTYPE_OF_ARRAY, name)
    ? DTYPE_OF_ARRAY[name as keyof typeof DTYPE_OF_ARRAY]
    : undefined;
}

/**
 * Throws unless a view may hold elements of a dtype: the typed array of that dtype, or bytes. The bits of F16 may
 * be in a Uint16Array, as those of BF16 are.
 *
 * @param action the caller's action, such as `write`
 * @throws {TypeError} that names the given and the expected type
 */
export function checkView(
  action: string,
  name: string,
  dtype: DType,
  data: unknown,
): asserts data is ArrayBufferView {
  if (!ArrayBuffer.isView(data)) {
    throw new TypeError(
      `Cannot ${action} tensor ${quote(name)}: data must be a typed array or a DataView, got ${
        describeValue(data)
      }`,
    );
  }
  const given = arrayName(data);
  const fitting = ARRAYS[dtype].name;
  if (given === fitting || BYTES.includes(given) || dtype === "F16" && given === "Uint16Array") return;
  const wanted = fitting === "Uint8Array" ? "a Uint8Array" : `a ${fitting}, or the bytes as a Uint8Array`;
  throw new TypeError(`Cannot ${action} tensor ${quote(name)}: ${dtype} wants ${wanted}, got a ${given}`);
}

function arrayName(data: ArrayBufferView): string {
  return (data as unknown as { readonly [Symbol.toStringTag]: string })[Symbol.toStringTag];
}
