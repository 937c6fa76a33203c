/**
 * Finding and opening the shim, once per isolate, at first use.
 *
 * Order: the file that `FASTSAFETENSORS_LIB` names; the library that a release carries, unpacked to the user's cache
 * folder; the build in that folder; a new build there with `cc`. Where none of these can be had there is no shim, and
 * a reason why. The library is never closed: a call in flight into a closed library would end the process.
 */
import { buildShim } from "./build.ts";
import { passEnvironment } from "./environment.ts";
import { unpackPrebuilt } from "./prebuilt.ts";
import { ABI_VERSION, type Shim, SYMBOLS } from "./symbols.ts";

/** The shim, or why there is none. */
export type LibraryState =
  | { readonly shim: Shim; readonly path: string }
  | { readonly shim: null; readonly reason: string };

let state: Promise<LibraryState> | undefined;

/**
 * Opens the shim, building it if need be.
 *
 * @throws {Error} if `FASTSAFETENSORS_LIB` names a library that cannot be opened: who names one wants that one
 */
export function openLibrary(): Promise<LibraryState> {
  state ??= find();
  return state;
}

/** Makes {@linkcode openLibrary} give this library, or none; for tests that need a special build. */
export function useLibrary(path: string | null): void {
  state = path === null
    ? Promise.resolve({ shim: null, reason: "it was switched off" })
    : Promise.resolve({ shim: open(path), path });
}

async function find(): Promise<LibraryState> {
  const named = environment("FASTSAFETENSORS_LIB");
  if (named) {
    try {
      return { shim: open(named), path: named };
    } catch (error) {
      throw new Error(
        `Cannot use the library that FASTSAFETENSORS_LIB names, "${named}": ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }
  if (Deno.build.os !== "linux") {
    return { shim: null, reason: `the native library needs Linux, this is ${Deno.build.os}` };
  }
  const reasons = new Set<string>(); // a missing permission stops every way with the same words
  for (const way of [unpackPrebuilt, buildShim]) {
    try {
      const path = await way();
      if (path !== null) return { shim: open(path), path };
    } catch (error) {
      reasons.add(messageOf(error));
    }
  }
  return { shim: null, reason: [...reasons].join("; ") };
}

function open(path: string): Shim {
  const library = Deno.dlopen(path, SYMBOLS);
  const version = library.symbols.fst_abi_version();
  if (version !== ABI_VERSION) {
    library.close();
    throw new Error(`its interface has version ${version}, this package needs ${ABI_VERSION}`);
  }
  passEnvironment(library.symbols);
  return library.symbols;
}

function environment(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
