/**
 * What this machine offers for loading, and what it does not.
 */
import { openLibrary } from "../ffi/library.ts";
import { availableMemory } from "../ffi/files.ts";
import { type CudaReport, reportCuda } from "./device/cuda_report.ts";
import { reportWebGpu, type WebGpuReport } from "./device/webgpu/adapter.ts";

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
  /** The GPUs that tensors can be loaded to, and how. */
  readonly cuda: CudaReport;
  /** The GPU that tensors can be loaded to as GPUBuffers. */
  readonly webgpu: WebGpuReport;
  /** What could be better, and what to do about it. */
  readonly remedies: readonly string[];
}

/** Looks at this machine: which engine loads here, and what would make loading faster. */
export async function doctor(): Promise<DoctorReport> {
  const library = await openLibrary();
  const remedies: string[] = [];
  let cachestat = false;
  if (library.shim) {
    // No such descriptor: the answer tells whether the system knows the question.
    const ENOSYS = 38n;
    cachestat = library.shim.fst_file_cached(-1, 0n, 1n) !== -ENOSYS;
    if (!cachestat) {
      remedies.push("Direct reads need Linux 6.5 or newer: files that are not cached load slower");
    }
  } else {
    remedies.push(`The native library is not used, loading is slower: ${library.reason}`);
    remedies.push(
      "Install a C compiler (cc), and run with --allow-ffi --allow-run=cc --allow-env --allow-write",
    );
  }
  const memory = library.shim ? availableMemory(library.shim) : -1;
  return {
    system: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
    cores: navigator.hardwareConcurrency,
    engine: library.shim ? "native" : "portable",
    library: library.shim ? library.path : null,
    availableMemory: memory < 0 ? null : memory,
    cachestat,
    cuda: await reportCuda(library.shim, library.shim ? "" : library.reason),
    webgpu: await reportWebGpu(),
    remedies,
  };
}
