/** Checks that values are tensors. */
import { entriesOf } from "../base/steps.ts";
import { describeValue } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import type { ByteView, TensorView } from "../device/cpu/elements.ts";

/** A tensor to write, of one of the dtypes `D`; a {@linkcode HostTensor} is one. */
export type TensorInput<D extends DType = DType> =
  | { [K in D]: ArrayInput<K, TensorView<K>> }[D]
  | ArrayInput<D, ByteView>;

/** A tensor to write whose elements are in a `V`. */
export interface ArrayInput<D extends DType, V> {
  /** Element type. */
  readonly dtype: D;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /**
   * The elements in row-major order, little-endian: the typed array of their dtype, or their bytes in a Uint8Array
   * or a DataView. F16 may be a Uint16Array too, and floats of 8 bits or fewer are bytes.
   */
  readonly data: V;
}

/**
 * Pairs of name and tensor from a record, a map or another iterable.
 *
 * @throws {TypeError} if it is none of these, or has items that are not pairs
 */
export function pairsOf<T>(
  tensors: Readonly<Record<string, T>> | Iterable<readonly [string, T]>,
): Iterable<readonly [string, T]> {
  if (typeof tensors !== "object" || tensors === null) {
    throw new TypeError(
      `Cannot write tensors: a record, a map or an iterable of pairs expected, got ${describeValue(tensors)}`,
    );
  }
  return Symbol.iterator in tensors
    ? checkedPairs(tensors as Iterable<readonly [string, T]>)
    : entriesOf(tensors);
}

function* checkedPairs<T>(
  pairs: Iterable<readonly [string, T]>,
): Generator<readonly [string, T], void, void> {
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw new TypeError(
        `Cannot write tensors: pairs of name and tensor expected, got ${describeValue(pair)}`,
      );
    }
    yield pair as unknown as readonly [string, T];
  }
}

/**
 * Throws unless a value has the form of a tensor.
 *
 * @param ways the properties that can give its elements
 * @throws {TypeError}
 */
export function checkTensor(name: string, tensor: unknown, ways: readonly string[]): void {
  const isObject = typeof tensor === "object" && tensor !== null && !ArrayBuffer.isView(tensor) &&
    !Array.isArray(tensor);
  if (!isObject) {
    throw new TypeError(
      `Cannot write tensor ${quote(name)}: a tensor is { dtype, shape, data }, got ${describeValue(tensor)}`,
    );
  }
  if (ways.some((way) => way in tensor)) return;
  const hint = "copyToHost" in tensor ? ": copy it to host memory, or use saveFile()" : "";
  throw new TypeError(`Cannot write tensor ${quote(name)}: it has no ${ways.join(", ")}${hint}`);
}
