/**
 * Exports tensors to other libraries of the process by DLPack.
 */
import { copyDLPack, isOver, newDLPack } from "../../../ffi/dlpack.ts";
import { openLibrary } from "../../../ffi/library.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import type { DLPackOptions, ExportedTensor } from "../dlpack.ts";
import { checkBoolean, checkKeys } from "../../base/check.ts";
import { DeviceError } from "../../base/errors.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";

/** The properties of a tensor that DLPack needs. */
type Described = Omit<ExportedTensor, "bytes">;

/** The place of a tensor's bytes on a device. */
interface DeviceBlock {
  readonly shim: Shim;
  /** Index of the device. */
  readonly device: number;
  /** Address of the tensor's first byte. */
  readonly address: bigint;
  /** The shim's pointer to the memory; 0 for a tensor without bytes. */
  readonly block: bigint;
}

/** DLDataTypeCode. F4 and F6 are missing: consumers pack their elements differently. */
const CODES: Readonly<Partial<Record<DType, number>>> = {
  BOOL: 6,
  U8: 1,
  I8: 0,
  F8_E5M2: 12,
  F8_E4M3: 10,
  F8_E8M0: 14,
  F8_E4M3FNUZ: 11,
  F8_E5M2FNUZ: 13,
  I16: 0,
  U16: 1,
  F16: 2,
  BF16: 4,
  I32: 0,
  U32: 1,
  F32: 2,
  C64: 5,
  F64: 2,
  I64: 0,
  U64: 1,
};

/** DLDeviceType. */
const CPU = 1, CUDA = 2;

/** Checks options; returns whether they select the struct of DLPack 1.x. */
function isVersioned(options: DLPackOptions): boolean {
  checkKeys("toDLPack()", options, ["versioned"]);
  checkBoolean("versioned", options.versioned);
  return options.versioned ?? false;
}

function elementType({ name, dtype }: Described): { code: number; bits: number } {
  const code = CODES[dtype];
  if (code === undefined) {
    throw new TypeError(`Cannot give tensor ${quote(name)} by DLPack: it does not know ${dtype}`);
  }
  return { code, bits: dtypeBits(dtype) };
}

/**
 * Makes a DLPack tensor over device memory, which stays valid until its deleter is called.
 *
 * @throws {TypeError} if DLPack does not know the dtype, or an option is unknown or wrong
 */
export function exportCuda(
  tensor: Described,
  { shim, device, address, block }: DeviceBlock,
  options: DLPackOptions,
): bigint {
  const source = {
    ...elementType(tensor),
    data: address,
    deviceType: CUDA,
    device,
    block,
    shape: tensor.shape,
  };
  const made = newDLPack(shim, source, isVersioned(options));
  if (made.lease !== 0n) keep(shim, made.lease, null);
  return made.address;
}

/**
 * Makes a DLPack tensor over JavaScript memory, which stays valid until its deleter is called; in a Worker over a copy.
 *
 * The memory of a Worker is freed when it ends, even if the consumer still uses it. A call in flight could keep it valid,
 * but would also prevent the program from ending while a consumer has a tensor.
 *
 * @throws {TypeError} if DLPack does not know the dtype, the buffer was transferred, or an option is unknown or wrong
 * @throws {DeviceError} if the native library is not available
 */
export async function exportHost(
  tensor: ExportedTensor,
  options: DLPackOptions,
): Promise<bigint> {
  const type = elementType(tensor);
  const versioned = isVersioned(options);
  const library = await openLibrary();
  if (!library.shim) {
    const message = `Cannot give tensor ${
      quote(tensor.name)
    } by DLPack: that needs the native library: ${library.reason}`;
    throw new DeviceError(message, { library: "fastsafetensors" });
  }
  const { bytes, shape } = tensor;
  if (bytes.buffer.detached) {
    throw new TypeError(`Cannot give tensor ${quote(tensor.name)} by DLPack: its buffer was transferred`);
  }
  const data = bytes.byteLength > 0 ? BigInt(library.shim.fst_address(bytes)) : 0n;
  const source = { ...type, data, deviceType: CPU, device: 0, block: 0n, shape };
  if ("WorkerGlobalScope" in globalThis) return await copyDLPack(library.shim, source, bytes, versioned);
  const made = newDLPack(library.shim, source, versioned);
  keep(library.shim, made.lease, bytes.buffer);
  return made.address;
}

/** Buffers that consumers can still use, by lease: a lease records whether the deleter has run. */
const leases = new Map<bigint, { readonly shim: Shim; readonly buffer: ArrayBuffer | null }>();

/**
 * A deleter can run on any thread and cannot call JavaScript. Instead, leases are checked after each run of the garbage
 * collector, which needs neither a thread nor a timer.
 */
const collections = new FinalizationRegistry<null>(() => {
  for (const [lease, { shim }] of leases) if (isOver(shim, lease)) leases.delete(lease);
  if (leases.size > 0) watchForCollection();
});

function watchForCollection(): void {
  collections.register({}, null); // the next run of the garbage collector frees this object
}

function keep(shim: Shim, lease: bigint, buffer: ArrayBuffer | null): void {
  if (leases.size === 0) watchForCollection();
  leases.set(lease, { shim, buffer });
}

/** Returns the number of buffers that consumers can still use. For tests. */
export function countBuffersOfConsumers(): number {
  return leases.size;
}
