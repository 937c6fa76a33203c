/**
 * The report on CUDA and the GPUs of this machine.
 */
import { cudaDevice, type CudaDeviceInfo, findCuda } from "../../../ffi/cuda.ts";
import { probeGds } from "../../../ffi/cuda_load.ts";
import type { Shim } from "../../../ffi/symbols.ts";

/** A GPU. */
export interface CudaDeviceReport extends CudaDeviceInfo {
  /** Its name in the option `device`. */
  readonly device: `cuda:${number}`;
}

/** CUDA and the GPUs of this machine. */
export interface CudaReport {
  /** The GPUs that tensors can be loaded to. */
  readonly devices: readonly CudaDeviceReport[];
  /** The reason if there are no GPUs; else empty. */
  readonly reason: string;
  /** Path of libcudart; null if it was not found. */
  readonly library: string | null;
  /** Version of the CUDA runtime, such as "12.4"; null if unknown. */
  readonly runtimeVersion: string | null;
  /** Version of CUDA that the driver is made for; null where it is not known. */
  readonly driverVersion: string | null;
  /** Whether loads use GPUDirect Storage by default, and its state. */
  readonly gds: { readonly usable: boolean; readonly state: string };
}

/** Reports the GPUs. `shim` is null if the native library is not used, for `reason`. */
export async function reportCuda(shim: Shim | null, reason: string): Promise<CudaReport> {
  const nothing = { devices: [], library: null, runtimeVersion: null, driverVersion: null };
  if (!shim) {
    return {
      ...nothing,
      reason: `the native library is not used: ${reason}`,
      gds: { usable: false, state: reason },
    };
  }
  const { devices: count, library, reason: why, runtimeVersion, driverVersion } = await findCuda(shim);
  const devices: CudaDeviceReport[] = [];
  for (let index = 0; index < count; index++) {
    devices.push({ device: `cuda:${index}`, ...await cudaDevice(shim, index) });
  }
  const gds = count > 0 ? await probeGds(shim) : { usable: false, state: "there is no GPU" };
  return { devices, reason: why, library, runtimeVersion, driverVersion, gds };
}
