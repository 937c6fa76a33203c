/**
 * Helpers of the CUDA tests: the stand-ins of tests/sim/cuda, or a real GPU if `FASTSAFETENSORS_TEST_GPU` is
 * "real" (deno task test:gpu). Call {@linkcode useCuda} at the top of a test file, before any test.
 */
import { assertEquals } from "@std/assert";
import { releasesDone } from "../../ffi/cuda_release.ts";
import { openLibrary, useLibrary } from "../../ffi/library.ts";
import type { Shim } from "../../ffi/symbols.ts";
import type { CudaTensor, HostTensor } from "../../mod.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { setEnv } from "../support/environment.ts";
import { assertTensor, tempFolder, type Written } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import { suite } from "../support/skip.ts";
import { buildStandIn, StandInLibrary, type Violations } from "../support/stand_in.ts";
import { buildTestShim, missingTestShim, openAdded } from "../support/test_library.ts";

/** The environment of a process that uses the stand-ins at a path. */
export function standInEnv(folder: string): Record<string, string> {
  const library = `${folder}/libfst_sim_cuda.so`;
  return {
    FASTSAFETENSORS_CUDART_LIB: library,
    FASTSAFETENSORS_CUDA_LIB: library,
    FASTSAFETENSORS_CUFILE_LIB: library,
    FASTSAFETENSORS_NVFS_PROC: "/nowhere/nvidia-fs/version",
    FST_SIM_KERNELS: `${folder}/libfst_sim_kernels.so`,
  };
}

/** The stand-ins' record since the last reset (tests/sim/cuda/sim.h). */
export interface SimReport {
  readonly live: Readonly<Record<string, number>>;
  readonly leaks: readonly string[];
  readonly peak: { readonly deviceBytes: number; readonly pinnedBytes: number };
  readonly copied: Readonly<Record<string, number>>;
  readonly counts: Readonly<Record<string, number>>;
  readonly violations: Violations;
}

/** The stand-ins in use. */
export class StandIns extends StandInLibrary<SimReport> {
  readonly folder: string;

  constructor(folder: string) {
    super(`${folder}/libfst_sim_cuda.so`, "fst_sim");
    this.folder = folder;
  }

  /** As for every stand-in; it also repairs failed devices. */
  override fail(spec: string): Disposable {
    super.fail(spec);
    return { [Symbol.dispose]: () => this.reset() };
  }
}

const SANITIZERS = [
  "-g",
  "-fno-omit-frame-pointer",
  "-fsanitize=address,undefined",
  "-fno-sanitize-recover=all",
];

/** Flags of the build for real GPUs: a build of its own, see {@linkcode useCuda}. */
export const REAL_GPU_FLAGS: readonly string[] = ["-DREAL_GPU"];

/** Whether this process was started with AddressSanitizer, which a library cannot load itself. */
function isSanitized(): boolean {
  return Deno.env.get("LD_PRELOAD")?.includes("libasan") ?? false;
}

/** The machine that the tests run on. */
export interface CudaMachine {
  /** The reason that the tests cannot run here; null if they can. */
  readonly missing: string | null;
  /** The stand-ins; null on a real GPU. */
  readonly standIns: StandIns | null;
  /** Devices. */
  readonly devices: number;
  /** Makes system calls of the shim fail (tests/native/added/added.h) until the result is disposed. */
  setFileFaults(spec: string): Disposable;
  /** Releases the kernels and the cuFile driver, which loads share; returns a status. */
  shutDown(): number;
  /** The shim in use. */
  readonly shim: Shim;
}

/**
 * Selects a build with fault injection, and its machine. The build is separate, since one of another test file might
 * have opened another CUDA library.
 */
export async function useCuda(): Promise<CudaMachine> {
  const isReal = Deno.env.get("FASTSAFETENSORS_TEST_GPU") === "real";
  let missing: string | null;
  let standIns: StandIns | null = null;
  if (isReal) {
    missing = await missingTestShim(REAL_GPU_FLAGS);
  } else {
    const built = await buildStandIn("cuda");
    missing = built.missing;
    if (!missing) {
      const environment = setEnv(standInEnv(built.folder));
      addEventListener("unload", () => environment[Symbol.dispose]());
      standIns = new StandIns(built.folder);
      standIns.reset();
    }
  }
  if (missing) {
    return {
      missing,
      standIns,
      devices: 0,
      setFileFaults: () => ({ [Symbol.dispose]() {} }),
      shutDown: () => 0,
      shim: null!,
    };
  }
  const path = await buildTestShim([
    ...isReal ? REAL_GPU_FLAGS : ["-DSTAND_INS"],
    ...isSanitized() ? SANITIZERS : [],
  ]);
  useLibrary(path);
  const added = openAdded(path);
  const shim = (await openLibrary()).shim!;
  await selectEngine();
  const { findCuda } = await import("../../ffi/cuda.ts");
  const { devices, reason } = await findCuda(shim);
  return {
    missing: devices > 0 ? null : reason,
    standIns,
    devices,
    setFileFaults(spec) {
      added.setFaults(spec);
      return { [Symbol.dispose]: () => added.setFaults("") };
    },
    shutDown: added.shutDownCuda,
    shim,
  };
}

/** Defines a test with its own folder; the test must release all descriptors and device memory. */
export type CudaTest = (name: string, body: (folder: string) => Promise<void> | void) => void;

/** Defines tests that run on stand-ins and on real GPUs. */
export function cudaSuite(name: string, machine: CudaMachine, define: (test: CudaTest) => void): void {
  suite(
    name,
    "cuda",
    machine.missing,
    () =>
      define((title, body) =>
        Deno.test(`${title} [${machine.standIns ? "CUDA stand-in" : "CUDA"}]`, async () => {
          await using folder = await tempFolder();
          await body(folder.path);
          await settled(machine);
          assertEquals(
            openDescriptors(folder.path),
            0,
            "descriptors of the test's files that are still open",
          );
          assertNothingLeft(machine);
        })
      ),
  );
}

/** Defines tests that need the stand-ins, for injected faults or records. */
export function standInSuite(
  name: string,
  machine: CudaMachine,
  define: (test: CudaTest, standIns: StandIns) => void,
): void {
  if (machine.missing === null && !machine.standIns) {
    Deno.test.ignore(`${name} is skipped: a real GPU cannot be made to fail`, () => {});
    return;
  }
  cudaSuite(name, machine, (test) => define(test, machine.standIns!));
}

/** Resolves after the pending releases of device memory. */
export async function settled({ shim }: CudaMachine): Promise<void> {
  await releasesDone(shim);
}

/** Fails if a stand-in has unreleased resources, or recorded a violation of CUDA's rules. */
export function assertNothingLeft({ standIns, shutDown }: CudaMachine): void {
  if (!standIns) return;
  assertEquals(shutDown(), 0, "what is kept between loads could not be given back");
  const { live, leaks, violations } = standIns.report();
  standIns.reset();
  assertEquals([live.total, leaks, violations], [0, [], { total: 0, kinds: {} }]);
}

/** Fails unless a tensor on the device equals the written one and is aligned; closes the handle. */
export async function assertOnDevice(tensor: CudaTensor, expected: Written): Promise<void> {
  using held = tensor;
  assertEquals(held.devicePointer % 16n, 0n, `the alignment of tensor "${expected.name}"`);
  assertTensor(await held.copyToHost(), expected);
}

/** Copies a tensor to host memory and closes the handle. */
export async function toHost(tensor: CudaTensor): Promise<HostTensor> {
  using held = tensor;
  return await held.copyToHost();
}
