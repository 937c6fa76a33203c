/**
 * Reports the abilities of this machine for loading, and advice for faster loading.
 *
 * @example Use
 * ```ts
 * import { doctor } from "@x/fastsafetensors/doctor";
 *
 * console.log((await doctor()).cuda.devices.length);
 * ```
 *
 * @module
 */
export type { CudaDeviceInfo } from "../../ffi/cuda.ts";
export type { CudaDeviceReport, CudaReport } from "../device/cuda/report.ts";
export type { WebGpuAdapterReport, WebGpuReport } from "../device/webgpu/adapter.ts";
export { doctor } from "./doctor.ts";
export type { DoctorReport } from "./report.ts";
export type { MachineReport } from "./machine.ts";
export type { StorageReport } from "./storage.ts";
export type { UsrbioReport, UsrbioUse } from "./usrbio.ts";
