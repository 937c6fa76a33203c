/**
 * Operations of the shim on tensors on a CUDA device. Each call resolves after the operation has ended.
 */
import { type DType, DTYPES } from "../src/base/dtype.ts";
import { check } from "./cuda.ts";
import type { Level } from "../src/base/levels.ts";
import { levelList } from "./levels.ts";
import type { Shim } from "./symbols.ts";

/** A place in a device's memory. */
export interface CudaPlace {
  /** Index of the device. */
  readonly device: number;
  /** Address on the device. */
  readonly address: bigint;
}

/** Copies from host memory. */
export async function writeDevice(
  shim: Shim,
  target: CudaPlace,
  source: Uint8Array<ArrayBuffer>,
  action: string,
): Promise<void> {
  const { device, address } = target;
  check(shim, action, await shim.fst_cuda_write(device, address, source, BigInt(source.byteLength), 0));
}

/** Copies to host memory, as many bytes as the target has. */
export async function readDevice(
  shim: Shim,
  target: Uint8Array<ArrayBuffer>,
  source: CudaPlace,
  action: string,
): Promise<void> {
  const { device, address } = source;
  check(shim, action, await shim.fst_cuda_read(device, target, address, BigInt(target.byteLength), 0));
}

/** Copies from pinned memory, which stays pinned meanwhile. */
export async function writeFromPinned(
  shim: Shim,
  target: CudaPlace,
  address: bigint,
  byteLength: number,
  action: string,
): Promise<void> {
  const bytes = BigInt(byteLength);
  check(shim, action, await shim.fst_cuda_write_pinned(target.device, target.address, address, bytes, 1));
}

/** Copies to pinned memory, which stays pinned meanwhile. */
export async function readToPinned(
  shim: Shim,
  address: bigint,
  source: CudaPlace,
  byteLength: number,
  action: string,
): Promise<void> {
  const bytes = BigInt(byteLength);
  check(shim, action, await shim.fst_cuda_read_pinned(source.device, address, source.address, bytes, 1));
}

/** Copies within a device or to another one. */
export async function copyDevice(
  shim: Shim,
  target: CudaPlace,
  source: CudaPlace,
  byteLength: number,
  action: string,
): Promise<void> {
  const bytes = BigInt(byteLength);
  const status = await shim.fst_cuda_copy(
    target.device,
    target.address,
    source.device,
    source.address,
    bytes,
  );
  check(shim, action, status);
}

/** Casts elements. */
export async function castDevice(
  shim: Shim,
  target: CudaPlace,
  to: DType,
  source: CudaPlace,
  from: DType,
  elements: number,
  action: string,
): Promise<void> {
  const [toCode, fromCode] = [DTYPES.indexOf(to), DTYPES.indexOf(from)];
  const { device } = source;
  const count = BigInt(elements);
  check(
    shim,
    action,
    await shim.fst_cuda_cast(device, target.address, source.address, count, toCode, fromCode),
  );
}

/** Gathers the runs of a slice into a contiguous range. */
export async function gatherDevice(
  shim: Shim,
  target: CudaPlace,
  source: CudaPlace,
  run: number,
  levels: readonly Level[],
  action: string,
): Promise<void> {
  const list = levelList(levels);
  const { device, address } = source;
  const status = await shim.fst_cuda_gather(
    device,
    target.address,
    address,
    BigInt(run),
    list,
    levels.length,
  );
  check(shim, action, status);
}

/** Copies contiguous rows to places that are `pitch` bytes apart. */
export async function scatterDevice(
  shim: Shim,
  target: CudaPlace,
  pitch: number,
  source: CudaPlace,
  width: number,
  rows: number,
  action: string,
): Promise<void> {
  const { device, address } = source;
  const [p, w, r] = [BigInt(pitch), BigInt(width), BigInt(rows)];
  check(shim, action, await shim.fst_cuda_scatter(device, target.address, p, address, w, r));
}
