/** Checks that values are tensors, and that their data is a typed array of their dtype, or bytes. */
import { entriesOf } from "../base/steps.ts";
import { describeValue } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { arrayNameOf } from "../device/cpu/tensor.ts";

/** Views of bytes, without an element type. */
const BYTES: readonly string[] = ["Uint8Array", "Uint8ClampedArray", "DataView"];

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

/**
 * Throws unless a view may hold elements of a dtype: the typed array of that dtype, or bytes. The bits of F16 may
 * be in a Uint16Array, as those of BF16 are.
 *
 * @throws {TypeError} that names the given and the expected type
 */
export function checkView(name: string, dtype: DType, data: unknown): asserts data is ArrayBufferView {
  if (!ArrayBuffer.isView(data)) {
    throw new TypeError(
      `Cannot write tensor ${quote(name)}: data must be a typed array or a DataView, got ${
        describeValue(data)
      }`,
    );
  }
  const given = (data as unknown as { readonly [Symbol.toStringTag]: string })[Symbol.toStringTag];
  const fitting = arrayNameOf(dtype);
  if (given === fitting || BYTES.includes(given) || dtype === "F16" && given === "Uint16Array") return;
  const wanted = fitting === "Uint8Array" ? "a Uint8Array" : `a ${fitting}, or the bytes as a Uint8Array`;
  throw new TypeError(`Cannot write tensor ${quote(name)}: ${dtype} wants ${wanted}, got a ${given}`);
}
