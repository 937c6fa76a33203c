/**
 * Selects the engine of a test file. Call it at the top of the file, before any test: the library stays open, and the
 * resource sanitizer would report it as a leak of the first test.
 */
import { useLibrary } from "../../ffi/library.ts";
import type { Engine } from "../../src/load/engine.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { type Added, buildTestShim, openAdded } from "./test_library.ts";

/**
 * Selects the native engine; returns the reason that it is missing, or null.
 *
 * @throws {Error} if a compiler exists and rejects the sources: that is not a reason to skip tests
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
  /** The reason that the build is not in use, or null. */
  readonly missing: string | null;
  /** Sets what fails (tests/native/added/added.h); disposing the result ends that. */
  set(spec: string): Disposable;
}

/** Selects the native engine with the build with fault injection. */
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

/**
 * Lets the package choose, without its notice; returns the reason that it did not choose the wanted engine, or null.
 */
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
