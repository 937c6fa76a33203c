/**
 * Loads to a CUDA device through the shim: the state that their lanes share.
 */
import { DeviceError, OutOfMemoryError } from "../src/base/errors.ts";
import {
  check,
  cudaDevice,
  describeStatus,
  MESSAGE_BYTES,
  newMessage,
  OUT_OF_MEMORY,
  textOf,
} from "./cuda.ts";
import { retryAfterReleases } from "./cuda_release.ts";
import { passEnvironment } from "./environment.ts";
import { Handle } from "./handle.ts";
import type { Shim } from "./symbols.ts";

/** `FST_DESTINATION_CUDA` of native/plan.h. */
export const CUDA_DESTINATION = 1;

/** The option `gds`: `fst_gds_wish` in native/fst_cuda.h. */
const GDS_WISHES = ["off", "auto", "require"] as const;

/** Settings of a load. */
export interface CudaLoadOptions {
  /** Index of the device. */
  readonly device: number;
  /** Number of files of the plan. */
  readonly files: number;
  /** The shim's pointer to the staging memory. */
  readonly pinned: bigint;
  /** Bytes of the staging memory. */
  readonly pinnedBytes: number;
  /** Whether cuFile reads. */
  readonly gds: typeof GDS_WISHES[number];
  /** Whether the plan has casts. */
  readonly casts: boolean;
  /** Number of allocations, whose addresses are set while lanes run. */
  readonly allocations: number;
}

/** The report of a load. */
export interface CudaLoadReport {
  /** File bytes that cuFile read. */
  readonly bytes: number;
  /** The mode of cuFile's reads; "off" if it was not used. */
  readonly mode: "off" | "gds" | "gds-compat";
  /** The status that ended its use during the load, or 0. */
  readonly failure: number;
  /** The status for which some staging memory is not pinned, or 0. */
  readonly pinFailure: number;
}

const GDS_MODES = ["off", "gds", "gds-compat"] as const;

/** A prepared load. */
export interface CudaLoad {
  /** The handle of the shared state of its lanes, which the caller must close. */
  readonly handle: Handle;
  /** The reason if GPUDirect Storage is not used; empty if it is used or was not requested. */
  readonly gdsReason: string;
}

/**
 * Prepares a load.
 *
 * @throws {OutOfMemoryError} if the device has no memory for the ring of a load that casts
 * @throws {DeviceError} if the device fails, or cuFile is required but not available
 */
export async function openLoad(shim: Shim, options: CudaLoadOptions): Promise<CudaLoad> {
  const bytes = new DataView(new ArrayBuffer(40));
  bytes.setInt32(0, options.device, true);
  bytes.setUint32(4, options.files, true);
  bytes.setBigUint64(8, options.pinned, true);
  bytes.setBigUint64(16, BigInt(options.pinnedBytes), true);
  bytes.setUint32(24, GDS_WISHES.indexOf(options.gds), true);
  bytes.setUint32(28, options.casts ? 1 : 0, true);
  bytes.setUint32(32, options.allocations, true);
  const load = new BigUint64Array(1);
  const reason = newMessage();
  const status = await retryAfterReleases(
    shim,
    (status) => status === OUT_OF_MEMORY,
    () => shim.fst_cuda_load_open(bytes.buffer, load, reason, MESSAGE_BYTES),
  );
  const gdsReason = textOf(reason);
  if (status !== 0 && gdsReason !== "") {
    const { code, codeName } = describeStatus(shim, status);
    throw new DeviceError(`Cannot load by GPUDirect Storage: ${gdsReason}`, {
      library: "cufile",
      code,
      codeName,
    });
  }
  if (status === OUT_OF_MEMORY) {
    const { freeBytes } = await cudaDevice(shim, options.device);
    throw new OutOfMemoryError(
      `Cannot load to device "cuda:${options.device}": ${options.pinnedBytes} bytes are needed for a ring, ` +
        `${freeBytes} are free`,
      options.pinnedBytes,
      freeBytes,
      { advice: "dispose tensors, load fewer names, or lower stagingBytes" },
    );
  }
  check(shim, `prepare device "cuda:${options.device}" for a load`, status);
  return { handle: new Handle("the load", load[0]!, shim.fst_cuda_load_close), gdsReason };
}

/** Returns the report of a load whose lanes have ended. */
export function loadReport(shim: Shim, load: bigint): CudaLoadReport {
  const report = new DataView(new ArrayBuffer(24));
  shim.fst_cuda_load_report_of(load, report.buffer);
  return {
    bytes: Number(report.getBigUint64(0, true)),
    mode: GDS_MODES[report.getUint32(8, true)]!,
    failure: report.getInt32(12, true),
    pinFailure: report.getInt32(16, true),
  };
}

/** Returns whether loads use GPUDirect Storage by default, and its state. */
export async function probeGds(shim: Shim): Promise<{ usable: boolean; state: string }> {
  passEnvironment(shim);
  const state = newMessage();
  const usable = await shim.fst_gds_probe(state, MESSAGE_BYTES) === 1;
  return { usable, state: textOf(state) };
}
