/**
 * Slices, casts and joins of tensors in host memory through the shim. Every buffer is a parameter of its call, so that it
 * stays alive until the call ends, also if the tensors are released meanwhile.
 */
import { type DType, DTYPES } from "../src/base/dtype.ts";
import { SystemError } from "./files.ts";
import type { StridedRuns } from "../src/base/levels.ts";
import { levelList } from "./levels.ts";
import type { Shim } from "./symbols.ts";

type Bytes = Uint8Array<ArrayBuffer>;

function check(status: number): void {
  if (status < 0) throw new SystemError(-status);
}

const lengthOf = ({ byteLength }: Bytes) => BigInt(byteLength);

/** Copies a slice of a tensor. */
export async function gatherHost(
  shim: Shim,
  source: Bytes,
  { offset, run, levels }: StridedRuns,
  target: Bytes,
): Promise<void> {
  const list = levelList(levels);
  const place = [BigInt(offset), BigInt(run)] as const;
  const buffers = [source, lengthOf(source), target, lengthOf(target)] as const;
  check(await shim.fst_host_gather(...buffers, ...place, list, levels.length));
}

/** Casts elements. */
export async function castHost(
  shim: Shim,
  source: Bytes,
  from: DType,
  target: Bytes,
  to: DType,
  count: number,
): Promise<void> {
  const codes = [DTYPES.indexOf(from), DTYPES.indexOf(to)] as const;
  const buffers = [source, lengthOf(source), target, lengthOf(target)] as const;
  check(await shim.fst_host_cast(...buffers, BigInt(count), ...codes));
}

/** Copies contiguous rows to the target, from `offset` on, `pitch` bytes apart. */
export async function scatterHost(
  shim: Shim,
  source: Bytes,
  target: Bytes,
  { offset, pitch, width, rows }: { offset: number; pitch: number; width: number; rows: number },
): Promise<void> {
  const place = [BigInt(offset), BigInt(pitch), BigInt(width), BigInt(rows)] as const;
  check(await shim.fst_host_scatter(source, lengthOf(source), target, lengthOf(target), ...place));
}
