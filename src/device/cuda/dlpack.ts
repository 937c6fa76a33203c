/**
 * Giving tensors to other libraries of the process by way of DLPack.
 */
import { copyDLPack, isOver, newDLPack } from "../../../ffi/dlpack.ts";
import { openLibrary } from "../../../ffi/library.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import type { DLPackOptions, ExportedTensor } from "../dlpack.ts";
import { checkBoolean, checkKeys } from "../../base/check.ts";
import { DeviceError } from "../../base/errors.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";

/** What DLPack needs to know of a tensor. */
type Described = Omit<ExportedTensor, "bytes">;

/** Where the bytes of a tensor are on a device. */
interface DeviceBlock {
  readonly shim: Shim;
  /** Index of the device. */
  readonly device: number;
  /** The tensor's first byte. */
  readonly address: bigint;
  /** The shim's name for the memory; 0 for a tensor of no bytes. */
  readonly block: bigint;
}

/** DLDataTypeCode. F4 and F6 are left out: consumers disagree about how their elements are packed. */
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

/** Checks options, and whether they ask for the struct of DLPack 1.x. */
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
 * A DLPack tensor over device memory, which it holds until its deleter is called.
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
 * A DLPack tensor over JavaScript memory, which is kept alive until its deleter is called; in a Worker over a copy of it.
 *
 * The memory of a Worker is freed when it ends, whatever the consumer still does. Only a call in flight would hold it
 * longer; but that call would also keep the program from ending, for as long as a consumer has a tensor.
 *
 * @throws {TypeError} if DLPack does not know the dtype, the buffer was transferred, or an option is unknown or wrong
 * @throws {DeviceError} if the native library is not to be had
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

/** Buffers that consumers may still use, by the lease that tells of the end of that. */
const leases = new Map<bigint, { readonly shim: Shim; readonly buffer: ArrayBuffer | null }>();

/**
 * No deleter can call JavaScript, from whatever thread it runs on: instead, leases are looked through whenever the
 * garbage collector has been at work. That is when memory would be given back anyhow, and costs no thread and no timer.
 */
const collections = new FinalizationRegistry<null>(() => {
  for (const [lease, { shim }] of leases) if (isOver(shim, lease)) leases.delete(lease);
  if (leases.size > 0) watchForCollection();
});

function watchForCollection(): void {
  collections.register({}, null); // nobody else holds this object: it goes with the next collection
}

function keep(shim: Shim, lease: bigint, buffer: ArrayBuffer | null): void {
  if (leases.size === 0) watchForCollection();
  leases.set(lease, { shim, buffer });
}

/** How many buffers are kept alive for consumers. For tests. */
export function keptForConsumers(): number {
  return leases.size;
}
