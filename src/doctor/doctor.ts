/**
 * The abilities of this machine for loading.
 */
import { workingFolder } from "../files/native/working_folder.ts";
import { openLibrary } from "../../ffi/library.ts";
import { availableMemory } from "../../ffi/files.ts";
import { describeValue } from "../base/check.ts";
import { availableSystemMemory } from "../../ffi/variables.ts";
import { reportCuda } from "../device/cuda/report.ts";
import { reportWebGpu } from "../device/webgpu/adapter.ts";
import { readMounts, reportMachine } from "./machine.ts";
import { remediesFor } from "./remedies.ts";
import type { DoctorReport } from "./report.ts";
import { reportStorage } from "./storage.ts";
import { reportUsrbio } from "./usrbio.ts";

/** The system's error number (EBADF) for a file that is not open. */
const EBADF = 9n;

/**
 * Examines this machine: the engine that loads here, and advice for faster loading.
 *
 * @param paths files or folders whose file systems are looked at. Default: none
 * @throws {TypeError} if `paths` is not a list
 */
export async function doctor(paths: Iterable<string> = []): Promise<DoctorReport> {
  if (typeof paths !== "object" || paths === null || !(Symbol.iterator in paths)) {
    throw new TypeError(`doctor() takes a list of paths, got ${describeValue(paths)}`); // a string would be a list of letters
  }
  const folder = workingFolder(); // before anything is waited for
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
    // The call names a file that is not open: a system without the call returns another error.
    cachestat: shim !== null && shim.fst_file_cached(-1, 0n, 1n) === -EBADF,
    machine: await reportMachine(mounts),
    storage: await reportStorage(shim, paths, folder, mounts),
    usrbio: await reportUsrbio(shim, libraryReason, mounts),
    cuda: await reportCuda(shim, libraryReason),
    webgpu: await reportWebGpu(),
  };
  return { ...findings, remedies: remediesFor({ ...findings, libraryReason }) };
}
