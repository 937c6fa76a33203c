/** Selects the backend that reads files on 3FS. */
import { openLibrary } from "../../ffi/library.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { findUsrbio, type UsrbioLibrary } from "../../ffi/usrbio.ts";
import { environmentVariable } from "../../ffi/variables.ts";
import { DeviceError } from "../base/errors.ts";
import { quote } from "../base/text.ts";

/**
 * A method to read files on 3FS: "usrbio", through rings shared with 3FS; "posix", ordinary reads on the mount;
 * "mock", ordinary reads in any folder, for tests.
 */
export type Backend = "usrbio" | "posix" | "mock";

/** The names that users can give. */
export const BACKENDS = ["auto", "usrbio", "posix", "mock"] as const;

/** The 3FS library, after it was found; until then each call looks for it again. */
let library: Promise<UsrbioLibrary> | undefined;

/**
 * Checks the name of a backend.
 *
 * @throws {TypeError} if the name is unknown
 */
export function checkBackend(name: string, given: unknown): Backend | "auto" {
  const backend = BACKENDS.find((known) => known === given);
  if (backend) return backend;
  throw new TypeError(`${name} must be ${listOf(BACKENDS)}, got ${JSON.stringify(given)}`);
}

/**
 * The backend that `FASTSAFETENSORS_BACKEND` names; "auto" if it is not set.
 *
 * @throws {TypeError} if it names an unknown backend
 */
export function requestedBackend(): Backend | "auto" {
  const asked = environmentVariable("FASTSAFETENSORS_BACKEND")?.trim().toLowerCase();
  return asked ? checkBackend("FASTSAFETENSORS_BACKEND", asked) : "auto";
}

/** Values as a list to choose from: `"a", "b" or "c"`. */
export function listOf(values: readonly string[]): string {
  const quoted = values.map((value) => `${quote(value)}`);
  return quoted.length < 2 ? quoted.join("") : `${quoted.slice(0, -1).join(", ")} or ${quoted.at(-1)}`;
}

/** Opens the 3FS library, unless it is open. A missing library is not an error here. */
export async function openUsrbio(shim: Shim): Promise<UsrbioLibrary> {
  library ??= findUsrbio(shim);
  const found = await library;
  if (found.handle === null) library = undefined;
  return found;
}

/**
 * Returns the native library, which every backend needs.
 *
 * @throws {DeviceError} if it is not available
 */
export async function needShim(): Promise<Shim> {
  const state = await openLibrary();
  if (state.shim) return state.shim;
  throw no3fs(`the native library is not available: ${state.reason}`);
}

/** The reason why the 3FS library cannot be used. */
export function libraryMissing(reason: string): string {
  return `no usable library of 3FS was found: ${reason}`;
}

/** The error if 3FS is required but cannot be used. */
export function no3fs(reason: string, code = 0): DeviceError {
  return new DeviceError(`Cannot read through 3FS: ${reason}`, { library: "hf3fs", code });
}
