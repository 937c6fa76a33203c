/**
 * Which engine loads in this test file. Call it at the top of the file, before any test: what it opens stays open,
 * and the resource sanitizer would take that for a leak of the test that opened it.
 */
import { buildShim } from "../../ffi/build.ts";
import { openLibrary, useLibrary } from "../../ffi/library.ts";
import type { Shim } from "../../ffi/symbols.ts";
import type { Engine } from "../../src/load/engine.ts";
import { selectEngine } from "../../src/load/native/select.ts";

/** Compiler flags of the build that can be made to fail (native/core/faults.h). */
export const FAULT_FLAGS: readonly string[] = ["-DFST_FAULTS"];

/**
 * Selects the native engine; why there is none, or null.
 *
 * @throws {Error} if there is a compiler and it refuses the sources: that is no reason to skip anything
 */
export async function useNativeEngine(): Promise<string | null> {
  const missing = await select("native");
  if (missing?.includes("ended with status")) throw new Error(missing);
  return missing;
}

/** Selects the portable engine. */
export async function usePortableEngine(): Promise<void> {
  useLibrary(null);
  await select("portable");
}

/** Makes system calls of the shim fail. */
export interface Faults {
  /** Whether the build is in use, or why not. */
  readonly missing: string | null;
  /** Sets what fails (native/core/faults.h); all is well again once the result is disposed. */
  set(spec: string): Disposable;
}

/** Selects the native engine over the build that can be made to fail. */
export async function useFaultEngine(): Promise<Faults> {
  let shim: Shim | null = null;
  let missing: string | null = null;
  try {
    useLibrary(await buildShim({ flags: FAULT_FLAGS }));
    shim = (await openLibrary()).shim;
  } catch (error) {
    missing = (error as Error).message;
    if (missing.includes("ended with status")) throw error;
    useLibrary(null);
  }
  await select(missing === null ? "native" : "portable");
  const set = (spec: string) => {
    const status = shim!.fst_fault_set!(new TextEncoder().encode(`${spec}\0`));
    if (status !== 0) throw new Error(`Cannot set faults "${spec}": status ${status}`);
  };
  return {
    missing,
    set(spec) {
      set(spec);
      return { [Symbol.dispose]: () => set("") };
    },
  };
}

/** Lets the package choose, without its notice; why it is not the engine wanted, or null. */
async function select(wanted: Engine["name"]): Promise<string | null> {
  const { warn } = console;
  console.warn = () => {};
  try {
    const { name, notes } = await selectEngine();
    return name === wanted ? null : notes.join("; ");
  } finally {
    console.warn = warn;
  }
}
