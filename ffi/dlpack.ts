/**
 * Makes DLPack tensors through the shim.
 */
import type { Shim } from "./symbols.ts";

/** A dense tensor for another library of this process. */
export interface DLPackSource {
  /** Address of its first element. */
  readonly data: bigint;
  /** DLDeviceType: 1 for the CPU, 2 for CUDA. */
  readonly deviceType: number;
  /** Index of the device. */
  readonly device: number;
  /** DLDataTypeCode. */
  readonly code: number;
  /** Bits of an element. */
  readonly bits: number;
  /** The shim's pointer to the device memory that the tensor keeps valid; 0 for other memory. */
  readonly block: bigint;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
}

/** The result. */
export interface DLPackTensor {
  /** Address of the DLManagedTensor, or DLManagedTensorVersioned. */
  readonly address: bigint;
  /** The lease, which records whether the deleter has run ({@linkcode isOver}); 0 for device memory. */
  readonly lease: bigint;
}

/**
 * Makes a DLPack tensor.
 *
 * @throws {Error} if there is not enough memory
 */
export function newDLPack(shim: Shim, source: DLPackSource, versioned: boolean): DLPackTensor {
  const { described, shape } = describe(source);
  const lease = new BigUint64Array(1);
  const address = shim.fst_dlpack_new(described, shape, versioned ? 1 : 0, lease);
  return { address: checkAddress(address), lease: lease[0]! };
}

/**
 * Makes a DLPack tensor over a copy of bytes, which it owns.
 *
 * @throws {Error} if there is not enough memory
 */
export async function copyDLPack(
  shim: Shim,
  source: DLPackSource,
  bytes: Uint8Array<ArrayBuffer>,
  versioned: boolean,
): Promise<bigint> {
  const { described, shape } = describe(source);
  const length = BigInt(bytes.byteLength);
  return checkAddress(await shim.fst_dlpack_copy(described, shape, versioned ? 1 : 0, bytes, length));
}

/** Encodes `fst_dlpack_source` of native/fst_cuda.h, and the shape. */
function describe(source: DLPackSource): { described: ArrayBuffer; shape: BigInt64Array<ArrayBuffer> } {
  const bytes = new DataView(new ArrayBuffer(32));
  bytes.setBigUint64(0, source.data, true);
  bytes.setInt32(8, source.deviceType, true);
  bytes.setInt32(12, source.device, true);
  bytes.setInt32(16, source.shape.length, true);
  bytes.setUint8(20, source.code);
  bytes.setUint8(21, source.bits);
  bytes.setUint16(22, 1, true);
  bytes.setBigUint64(24, source.block, true);
  return { described: bytes.buffer, shape: BigInt64Array.from(source.shape, BigInt) };
}

function checkAddress(address: bigint): bigint {
  if (address === 0n) throw new Error("Cannot make a DLPack tensor: there is no memory for it");
  return address;
}

/** Whether the deleter has run. Returns true once for each lease and then frees the lease. */
export function isOver(shim: Shim, lease: bigint): boolean {
  return shim.fst_dlpack_is_over(lease) === 1;
}
