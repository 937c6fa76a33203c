/**
 * Strided runs of bytes as arguments of the shim.
 */
import type { Level } from "../src/base/levels.ts";

/** Encodes levels as a list of counts and strides. */
export function levelList(levels: readonly Level[]): BigUint64Array<ArrayBuffer> {
  const list = new BigUint64Array(2 * levels.length);
  levels.forEach(({ count, stride }, index) => list.set([BigInt(count), BigInt(stride)], 2 * index));
  return list;
}
