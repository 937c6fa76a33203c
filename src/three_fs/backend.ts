/**
 * Which way files on 3FS are read.
 */
import { openLibrary } from "../../ffi/library.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { findUsrbio, type UsrbioLibrary } from "../../ffi/usrbio.ts";
import { environmentVariable } from "../../ffi/variables.ts";
import { DeviceError } from "../base/errors.ts";
import { quote } from "../base/text.ts";

/**
 * A way to read files on 3FS: "usrbio", through rings shared with 3FS; "posix", ordinary reads on the mount; "mock",
 * ordinary reads in any folder, for tests.
 */
export type Backend = "usrbio" | "posix" | "mock";

/** What can be asked for. */
export const BACKENDS = ["auto", "usrbio", "posix", "mock"] as const;

/** 3FS' library, once it was found; where it was not, it is looked for again. */
let library: Promise<UsrbioLibrary> | undefined;

/**
 * Checks the name of a backend.
 *
 * @throws {TypeError} if it is none
 */
export function checkBackend(name: string, given: unknown): Backend | "auto" {
  const backend = BACKENDS.find((known) => known === given);
  if (backend) return backend;
  throw new TypeError(`${name} must be ${listOf(BACKENDS)}, got ${JSON.stringify(given)}`);
}

/**
 * The backend that `FASTSAFETENSORS_BACKEND` asks for; "auto" where it asks for none.
 *
 * @throws {TypeError} if it names none
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

/** Opens 3FS' library, unless it is open. That there is none is no error. */
export async function openUsrbio(shim: Shim): Promise<UsrbioLibrary> {
  library ??= findUsrbio(shim);
  const found = await library;
  if (found.handle === null) library = undefined;
  return found;
}

/**
 * The native library, which every backend needs.
 *
 * @throws {DeviceError} if there is none
 */
export async function needShim(): Promise<Shim> {
  const state = await openLibrary();
  if (state.shim) return state.shim;
  throw no3fs(`the native library is not to be had: ${state.reason}`);
}

/** Why 3FS' library cannot be used. */
export function libraryMissing(reason: string): string {
  return `there is no library of it that can be used: ${reason}`;
}

/** The error of a demand for 3FS that cannot be met. */
export function no3fs(reason: string, code = 0): DeviceError {
  return new DeviceError(`Cannot read through 3FS: ${reason}`, { library: "hf3fs", code });
}
