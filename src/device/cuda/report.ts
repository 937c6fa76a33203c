/**
 * What there is of CUDA on this machine.
 */
import { cudaDevice, type CudaDeviceInfo, findCuda } from "../../../ffi/cuda.ts";
import { probeGds } from "../../../ffi/cuda_load.ts";
import type { Shim } from "../../../ffi/symbols.ts";

/** A GPU. */
export interface CudaDeviceReport extends CudaDeviceInfo {
  /** Its name in the option `device`. */
  readonly device: `cuda:${number}`;
}

/** What there is of CUDA. */
export interface CudaReport {
  /** The GPUs that tensors can be loaded to. */
  readonly devices: readonly CudaDeviceReport[];
  /** Why there are none; empty where there are. */
  readonly reason: string;
  /** Path of libcudart; null where it was not found. */
  readonly library: string | null;
  /** Version of the CUDA runtime, such as "12.4"; null where it is not known. */
  readonly runtimeVersion: string | null;
  /** Version of CUDA that the driver is made for; null where it is not known. */
  readonly driverVersion: string | null;
  /** Whether loads use GPUDirect Storage without being told to, and what there is of it. */
  readonly gds: { readonly usable: boolean; readonly state: string };
}

/** Looks at the GPUs. `shim` is null without the native library, for this reason. */
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
