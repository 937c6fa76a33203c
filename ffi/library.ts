/**
 * Finds and opens the shim, once per isolate, at its first use.
 *
 * Order: the file that `FASTSAFETENSORS_LIB` names; the library of a release, unpacked to the user's cache folder; the
 * build in that folder; a new build there with `cc`. If none of these is available, the result is a reason instead of the
 * shim. The library is never closed: a call in flight into a closed library would end the process.
 */
import { environmentVariable, isGranted } from "./variables.ts";
import { buildShim } from "./build.ts";
import { PermissionsMissing } from "./permissions.ts";
import { passEnvironment } from "./environment.ts";
import { unpackPrebuilt } from "./prebuilt.ts";
import { messageOf, quote } from "../src/base/text.ts";
import { ABI_VERSION, type Shim, SYMBOLS } from "./symbols.ts";

/** The shim, or the reason why it is not available. */
export type LibraryState =
  | { readonly shim: Shim; readonly path: string }
  | { readonly shim: null; readonly reason: string };

let state: Promise<LibraryState> | undefined;

/** The reason why the library could not be opened; undefined while it is open or a search runs. */
let failure: { readonly permissions: readonly Deno.PermissionDescriptor[] } | undefined;

/**
 * Opens the shim; builds it if necessary. After a failure a call tries again if a missing permission has been granted, or
 * after {@linkcode retryLibrary}. Does not prompt for permissions.
 *
 * @throws {Error} if `FASTSAFETENSORS_LIB` names a library that cannot be opened; no other library replaces it
 */
export function openLibrary(): Promise<LibraryState> {
  if (failure?.permissions.some(isGranted)) retryLibrary();
  state ??= find();
  return state;
}

/** Makes {@linkcode openLibrary} try again if it has failed. */
export function retryLibrary(): void {
  if (failure) state = failure = undefined;
}

/** Makes {@linkcode openLibrary} return this library, or none; for tests that need a special build. */
export function useLibrary(path: string | null): void {
  failure = undefined;
  state = path === null
    ? Promise.resolve({ shim: null, reason: "it was switched off" })
    : Promise.resolve({ shim: open(path), path });
}

async function find(): Promise<LibraryState> {
  const named = environmentVariable("FASTSAFETENSORS_LIB");
  if (named) return openNamed(named);
  if (Deno.build.os !== "linux") {
    return { shim: null, reason: `the native library needs Linux, this is ${Deno.build.os}` };
  }
  const reasons: string[] = [];
  let missing: PermissionsMissing | undefined;
  for (const way of [unpackPrebuilt, buildShim]) {
    try {
      const path = await way();
      if (path !== null) return { shim: open(path), path };
    } catch (error) {
      if (!(error instanceof PermissionsMissing)) reasons.push(messageOf(error));
      else if (!missing) reasons.push((missing = error).message); // a build needs at least the same permissions
    }
  }
  failure = { permissions: missing?.permissions ?? [] };
  return { shim: null, reason: reasons.join("; ") };
}

function openNamed(path: string): LibraryState {
  const ffi: Deno.PermissionDescriptor = { name: "ffi", path };
  try {
    if (!isGranted(ffi)) throw new PermissionsMissing([ffi]);
    return { shim: open(path), path };
  } catch (cause) {
    failure = { permissions: cause instanceof PermissionsMissing ? cause.permissions : [] };
    const message = `Cannot use the library that FASTSAFETENSORS_LIB names, ${quote(path)}: ${
      messageOf(cause)
    }`;
    throw new Error(message, { cause });
  }
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
