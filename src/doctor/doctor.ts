/**
 * What this machine offers for loading, and what it does not.
 */
import { openLibrary } from "../../ffi/library.ts";
import { availableMemory } from "../../ffi/files.ts";
import { describeValue } from "../base/check.ts";
import { availableSystemMemory } from "../../ffi/variables.ts";
import { type CudaReport, reportCuda } from "../device/cuda/report.ts";
import { reportWebGpu, type WebGpuReport } from "../device/webgpu/adapter.ts";
import { type MachineReport, readMounts, reportMachine } from "./machine.ts";
import { remediesFor } from "./remedies.ts";
import { reportStorage, type StorageReport } from "./storage.ts";
import { reportUsrbio, type UsrbioReport } from "./usrbio.ts";

/** What {@linkcode doctor} finds. */
export interface DoctorReport {
  /** Operating system and processor architecture. */
  readonly system: string;
  /** Deno's version. */
  readonly deno: string;
  /** Processor cores. */
  readonly cores: number;
  /** Which engine loads: the native library or Deno's own file functions. */
  readonly engine: "native" | "portable";
  /** Where the native library is; null without one. */
  readonly library: string | null;
  /** Bytes that may still be allocated; null where that is not known. */
  readonly availableMemory: number | null;
  /** Whether the system tells what the page cache holds, which decides between buffered and direct reads. */
  readonly cachestat: boolean;
  /** What the system grants. */
  readonly machine: MachineReport;
  /** How files can be read in the places that were asked about. */
  readonly storage: readonly StorageReport[];
  /** What there is of 3FS. */
  readonly usrbio: UsrbioReport;
  /** The GPUs that tensors can be loaded to, and how. */
  readonly cuda: CudaReport;
  /** The GPU that tensors can be loaded to as GPUBuffers. */
  readonly webgpu: WebGpuReport;
  /** What could be better, and what to do about it. */
  readonly remedies: readonly string[];
}

/** The system's number for a file that is not open. */
const EBADF = 9n;

/**
 * Looks at this machine: which engine loads here, and what would make loading faster.
 *
 * @param paths files or folders whose file systems are looked at. Default: none
 * @throws {TypeError} if `paths` is not a list
 */
export async function doctor(paths: Iterable<string> = []): Promise<DoctorReport> {
  if (typeof paths !== "object" || paths === null || !(Symbol.iterator in paths)) {
    throw new TypeError(`doctor() takes a list of paths, got ${describeValue(paths)}`); // a text is a list of letters
  }
  const library = await openLibrary();
  const { shim } = library;
  const libraryReason = library.shim ? "" : library.reason;
  const mounts = await readMounts();
  const memory = shim ? availableMemory(shim) : availableSystemMemory();
  const findings = {
    system: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
    cores: navigator.hardwareConcurrency,
    engine: shim ? "native" as const : "portable" as const,
    library: library.shim ? library.path : null,
    availableMemory: memory < 0 ? null : memory,
    // Of a file that is not open: a system that does not know the question has another answer.
    cachestat: shim !== null && shim.fst_file_cached(-1, 0n, 1n) === -EBADF,
    machine: await reportMachine(mounts),
    storage: await reportStorage(shim, paths, mounts),
    usrbio: await reportUsrbio(shim, libraryReason, mounts),
    cuda: await reportCuda(shim, libraryReason),
    webgpu: await reportWebGpu(),
  };
  return { ...findings, remedies: remediesFor({ ...findings, libraryReason }) };
}
