/**
 * Which engine loads in this test file. Call it at the top of the file, before any test: what it opens stays open,
 * and the resource sanitizer would take that for a leak of the test that opened it.
 */
import { useLibrary } from "../../ffi/library.ts";
import type { Engine } from "../../src/load/engine.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { type Added, buildTestShim, openAdded } from "./test_library.ts";

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
  /** Sets what fails (tests/native/added/added.h); all is well again once the result is disposed. */
  set(spec: string): Disposable;
}

/** Selects the native engine over the build that can be made to fail. */
export async function useFaultEngine(): Promise<Faults> {
  let added: Added | null = null;
  let missing: string | null = null;
  try {
    const path = await buildTestShim();
    useLibrary(path);
    added = openAdded(path);
  } catch (error) {
    missing = (error as Error).message;
    if (missing.includes("ended with status")) throw error;
    useLibrary(null);
  }
  await select(missing === null ? "native" : "portable");
  return {
    missing,
    set(spec) {
      added!.setFaults(spec);
      return { [Symbol.dispose]: () => added!.setFaults("") };
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
