/**
 * Calls CUDA through the shim: converts structs to objects and statuses to errors.
 */
import { DeviceError, OutOfMemoryError } from "../src/base/errors.ts";
import { releasesNow, retryAfterReleases } from "./cuda_release.ts";
import { passEnvironment } from "./environment.ts";
import { Handle } from "./handle.ts";
import { quote } from "../src/base/text.ts";
import { systemErrorText } from "./status.ts";
import type { Shim } from "./symbols.ts";

/** CUDA on this machine. */
export type CudaState = {
  /** Number of devices; 0 without a usable GPU. */
  readonly devices: number;
  /** The reason if there are no devices; else empty. */
  readonly reason: string;
  /** The runtime's error number of the device count; 0 if it succeeded or no library was found. */
  readonly code: number;
  /** Its name. */
  readonly codeName: string;
  /** Path of libcudart; null if it was not found. */
  readonly library: string | null;
  /** Version of the runtime, "12.4"; null if unknown. */
  readonly runtimeVersion: string | null;
  /** CUDA version of the driver; null if unknown. */
  readonly driverVersion: string | null;
};

/** A device. */
export interface CudaDeviceInfo {
  /** Its product name; empty if unknown. */
  readonly name: string;
  /** Compute capability, "8.0". */
  readonly capability: string;
  /** Free bytes of its memory. */
  readonly freeBytes: number;
  /** Bytes of its memory. */
  readonly totalBytes: number;
  /** Its address on the PCI bus. */
  readonly pciBus: string;
  /** The memory node that it is connected to; -1 if unknown. */
  readonly numaNode: number;
}

/** Device memory. */
export interface CudaBlock {
  /** Address on the device; 0 for an allocation without bytes. */
  readonly address: bigint;
  /** The handle of its pointer in the shim, which the caller must close; null for an allocation without bytes. */
  readonly handle: Handle | null;
}

/** Pinned host memory, which devices can access. */
export interface PinnedBlock {
  /** Its address. */
  readonly address: bigint;
  /** The handle of its pointer in the shim, which the caller must close. */
  readonly handle: Handle;
}

/** cudaErrorMemoryAllocation. */
export const OUT_OF_MEMORY = 2;
const INVALID_DEVICE = 101;
/** Statuses of the device count without a recent driver or without a device; they are not failures. */
const NO_GPU: readonly number[] = [35, 100];
const ENOMEM = 12, ENOSYS = 38;
const FIRST_OF_CUFILE = 5000, FIRST_OF_DRIVER = 100_000;

/** Bytes of a buffer for a message of the shim. */
export const MESSAGE_BYTES = 2048n;

/** Makes a buffer for a message of the shim. */
export function newMessage(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Number(MESSAGE_BYTES));
}

const decoder = new TextDecoder();

/** Decodes the text up to the first NUL. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** The parts of a status: the library, its error number, and its name of the error. */
export function describeStatus(
  shim: Shim,
  status: number,
): { library: string; code: number; codeName: string; text: string } {
  const name = newMessage(), text = newMessage();
  if (status === -ENOSYS) shim.fst_cuda_missing(text, MESSAGE_BYTES);
  if (status < 0) {
    return { library: "cudart", code: 0, codeName: "", text: textOf(text) || systemErrorText(-status) };
  }
  shim.fst_cuda_error(status, name, text, MESSAGE_BYTES);
  const [library, code] = status >= FIRST_OF_DRIVER
    ? ["cuda", status - FIRST_OF_DRIVER]
    : [status >= FIRST_OF_CUFILE ? "cufile" : "cudart", status];
  return { library, code, codeName: textOf(name), text: textOf(text) };
}

/** Describes a failed status: `cudaErrorIllegalAddress (700): an illegal memory access was encountered`. */
export function statusText(shim: Shim, status: number): string {
  const { library, code, codeName, text } = describeStatus(shim, status);
  if (status < 0) return text;
  return `${codeName || `lib${library} failed`} (${code})${text && `: ${text}`}`;
}

/** Makes the error for a failed status. */
export function cudaError(shim: Shim, action: string, status: number): DeviceError | OutOfMemoryError {
  const message = `Cannot ${action}: ${statusText(shim, status)}`;
  if (status === OUT_OF_MEMORY) return new OutOfMemoryError(message, 0, -1);
  const { library, code, codeName } = describeStatus(shim, status);
  return new DeviceError(message, { library, code, codeName });
}

/** Throws {@linkcode cudaError} for a failed status. */
export function check(shim: Shim, action: string, status: number): void {
  if (status !== 0) throw cudaError(shim, action, status);
}

/** Finds CUDA and its devices. A machine without devices is not an error. */
export async function findCuda(shim: Shim): Promise<CudaState> {
  passEnvironment(shim);
  const info = new DataView(new ArrayBuffer(16));
  const [path, missing] = [newMessage(), newMessage()];
  const status = await shim.fst_cuda_find(info.buffer, path, missing, MESSAGE_BYTES);
  const none = {
    devices: 0,
    code: 0,
    codeName: "",
    library: null,
    runtimeVersion: null,
    driverVersion: null,
  };
  if (status !== 0) return { ...none, reason: `there is no libcudart: ${textOf(missing)}` };
  const library = textOf(path);
  const found = {
    ...none,
    library,
    runtimeVersion: version(info.getInt32(8, true)),
    driverVersion: version(info.getInt32(12, true)),
  };
  const counted = info.getInt32(0, true);
  const devices = info.getInt32(4, true);
  if (devices > 0) return { ...found, devices, reason: "" };
  if (counted === 0) return { ...found, reason: `${quote(library)} counts no GPU` };
  const { code, codeName } = describeStatus(shim, counted);
  const what = NO_GPU.includes(counted) ? "finds no GPU" : "cannot tell what GPUs there are";
  return { ...found, code, codeName, reason: `${quote(library)} ${what}: ${statusText(shim, counted)}` };
}

function version(number: number): string | null {
  return number > 0 ? `${Math.floor(number / 1000)}.${Math.floor(number % 1000 / 10)}` : null;
}

/**
 * Reads the properties of a device.
 *
 * @throws {DeviceError} if this machine does not have the device, or it fails
 */
export async function cudaDevice(shim: Shim, device: number): Promise<CudaDeviceInfo> {
  const info = new DataView(new ArrayBuffer(112));
  check(
    shim,
    `read the properties of device "cuda:${device}"`,
    await shim.fst_cuda_device(device, info.buffer),
  );
  return {
    freeBytes: Number(info.getBigUint64(0, true)),
    totalBytes: Number(info.getBigUint64(8, true)),
    capability: `${info.getInt32(16, true)}.${info.getInt32(20, true)}`,
    numaNode: info.getInt32(24, true),
    pciBus: textOf(new Uint8Array(info.buffer, 28, 20)),
    name: textOf(new Uint8Array(info.buffer, 48, 64)),
  };
}

/** Makes the error for a device that this machine does not have. */
export function noSuchDevice(device: number, devices: number): DeviceError {
  return new DeviceError(
    `Cannot use device "cuda:${device}": this machine has ${devices}, from "cuda:0" on`,
    { library: "cudart", code: INVALID_DEVICE, codeName: "cudaErrorInvalidDevice" },
  );
}

/**
 * Makes all of these allocations on a device, or none.
 *
 * @param action the action for messages: "Cannot …"
 * @param load the shim's pointer to a load whose lanes wait for the memory; else 0. The memory that was made before a
 * failure is then released after `idle` has resolved: when no lane uses it
 * @throws {OutOfMemoryError} if it does not fit
 * @throws {DeviceError} if the device fails
 */
export async function allocateBlocks(
  shim: Shim,
  device: number,
  byteLengths: readonly number[],
  action: string,
  load: { readonly pointer: bigint; idle(error: unknown): Promise<void> } | null = null,
): Promise<CudaBlock[]> {
  const list = new DataView(new ArrayBuffer(24 * byteLengths.length));
  byteLengths.forEach((bytes, index) => list.setBigUint64(24 * index, BigInt(bytes), true));
  const free = new BigUint64Array(1);
  const status = await retryAfterReleases(
    shim,
    (status) => status === OUT_OF_MEMORY,
    () => shim.fst_cuda_allocate(device, list.buffer, byteLengths.length, load?.pointer ?? 0n, free),
  );
  const blocks = byteLengths.map((_, index) => {
    const block = list.getBigUint64(24 * index + 16, true);
    return {
      address: list.getBigUint64(24 * index + 8, true),
      handle: block === 0n ? null : new Handle("device memory", block, shim.fst_cuda_release),
    };
  });
  try {
    checkMemory(shim, device, action, status, byteLengths.reduce((sum, bytes) => sum + bytes, 0), free[0]!);
  } catch (error) {
    await load?.idle(error);
    for (const { handle } of blocks) handle?.close();
    throw error;
  }
  return blocks;
}

/** Throws the error for a failed allocation. */
function checkMemory(
  shim: Shim,
  device: number,
  action: string,
  status: number,
  requested: number,
  free: bigint,
): void {
  if (status === OUT_OF_MEMORY) {
    const message = `Cannot ${action}: ${requested} bytes are needed on device "cuda:${device}", ` +
      `${free} are free${lostMemory(shim)}`;
    const advice = "dispose tensors, load fewer names, or open with lazy: true";
    throw new OutOfMemoryError(message, requested, Number(free), { advice });
  }
  check(shim, action, status);
}

/** Describes memory that could not be freed, for a message. */
function lostMemory(shim: Shim): string {
  const { failed, status } = releasesNow(shim);
  return failed === 0 ? "" : `; ${failed} pieces of memory could not be freed: ${statusText(shim, status)}`;
}

/**
 * When host memory is pinned: at once, or by lanes when they first use a piece of it. The process keeps shared memory for
 * its next loads (`fst_cuda_pinning` in native/fst_cuda.h).
 */
export const PINNINGS = ["now", "later", "shared"] as const;

/**
 * Allocates pinned host memory, on the memory node of a device.
 *
 * @throws {DeviceError} if it cannot be allocated, or not be pinned at once
 */
export async function pinMemory(
  shim: Shim,
  device: number,
  byteLength: number,
  pinning: typeof PINNINGS[number],
): Promise<PinnedBlock> {
  const address = new BigUint64Array(1), pinned = new BigUint64Array(1);
  const kind = PINNINGS.indexOf(pinning);
  const status = await retryAfterReleases(
    shim,
    (status) => status === OUT_OF_MEMORY || status === -ENOMEM,
    () => shim.fst_cuda_pin(device, BigInt(byteLength), kind, address, pinned),
  );
  check(shim, `pin ${byteLength} bytes of memory`, status);
  return { address: address[0]!, handle: new Handle("pinned memory", pinned[0]!, shim.fst_cuda_unpin) };
}
