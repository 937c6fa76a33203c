/**
 * What there is to know of a machine.
 */
import type { CudaReport } from "../device/cuda/report.ts";
import type { WebGpuReport } from "../device/webgpu/adapter.ts";
import type { MachineReport } from "./machine.ts";
import type { StorageReport } from "./storage.ts";
import type { UsrbioReport } from "./usrbio.ts";

/** The report of `doctor()`. */
export interface DoctorReport {
  /** Operating system and processor architecture. */
  readonly system: string;
  /** Deno's version. */
  readonly deno: string;
  /** Processor cores. */
  readonly cores: number;
  /** Which engine loads: the native library or Deno's own file functions. */
  readonly engine: "native" | "portable";
  /** Path of the native library; null without one. */
  readonly library: string | null;
  /** Bytes that may still be allocated; null if unknown. */
  readonly availableMemory: number | null;
  /** Whether the system reports the content of the page cache, which decides between buffered and direct reads. */
  readonly cachestat: boolean;
  /** Limits and settings of the system. */
  readonly machine: MachineReport;
  /** How files can be read in the given places. */
  readonly storage: readonly StorageReport[];
  /** The library and the mounts of 3FS. */
  readonly usrbio: UsrbioReport;
  /** The CUDA devices to which tensors can be loaded, and the way of the bytes. */
  readonly cuda: CudaReport;
  /** The GPU to which tensors can be loaded as GPUBuffers. */
  readonly webgpu: WebGpuReport;
  /** Problems, and advice against each of them. */
  readonly remedies: readonly string[];
}
