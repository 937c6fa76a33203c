/**
 * Reads ranges of files on 3FS with the steps of the Python package: a reader, the headers of a batch of files,
 * then ranges of them to memory.
 */
import { absolutePath } from "../files/native/local_path.ts";
import { mountPointOf } from "../../ffi/usrbio.ts";
import { DeviceError } from "../base/errors.ts";
import { readError } from "../files/native/local_path.ts";
import { NativeFileSource } from "../files/native/native_file.ts";
import { ThreeFsReaders } from "./lane_readers.ts";
import {
  type Backend,
  checkBackend,
  libraryMissing,
  needShim,
  no3fs,
  openUsrbio,
  requestedBackend,
} from "./backend.ts";
import { checkUsrbioOptions, ringOptions, type UsrbioOptions } from "./options.ts";
import { type RangeReader, SourceReader } from "./range_reader.ts";

/** Options of {@linkcode createReader}; `bufferBytes` is the one buffer of the reader. */
export interface ReaderOptions extends UsrbioOptions {
  /**
   * The method of reading. "auto" uses `FASTSAFETENSORS_BACKEND` if it is set; otherwise files on 3FS are read
   * through its rings and others by ordinary reads. Default "auto".
   */
  backend?: Backend | "auto";
}

/**
 * Makes a reader.
 *
 * @throws {TypeError} if an option has a wrong value, or `FASTSAFETENSORS_BACKEND` names an unknown backend
 * @throws {RangeError} if a number is outside its limits
 * @throws {DeviceError} if the native library is not available, or the 3FS library if the backend is "usrbio"
 *
 * @example Use
 * ```ts
 * import { serialize } from "@x/fastsafetensors";
 * import { createReader } from "@x/fastsafetensors/3fs";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "U8", shape: [3], data: new Uint8Array([1, 2, 3]) } }));
 *
 * await using reader = await createReader({ backend: "mock" }); // any folder; "usrbio" reads from 3FS
 * const { headerLength, fileSize } = (await reader.readHeadersBatch([path])).get(path)!;
 * const buffer = new Uint8Array(fileSize - headerLength);
 * await reader.readChunked({ path, buffer, fileOffset: headerLength, totalLength: buffer.byteLength });
 * assertEquals(buffer, new Uint8Array([1, 2, 3]));
 * ```
 */
export async function createReader(options: ReaderOptions = {}): Promise<RangeReader> {
  const checked = checkUsrbioOptions(options, "createReader()", ["backend"]);
  const named = options.backend === undefined ? "auto" : checkBackend("backend", options.backend);
  const asked = named === "auto" ? requestedBackend() : named;
  const shim = await needShim();
  const rings = ringOptions(checked, 1);
  const backend = asked === "auto" ? await getBackend() : asked;
  if (backend !== "usrbio") return new SourceReader(shim, backend, new NativeFileSource(shim), rings);
  const required = asked === "usrbio";
  if (required) {
    const library = await openUsrbio(shim);
    if (library.handle === null) throw no3fs(libraryMissing(library.reason));
  }
  const readers = new ThreeFsReaders(shim, { required, rings, lanes: 1, mountPoint: checked.mountPoint });
  const source = new NativeFileSource(shim, readers);
  return new SourceReader(shim, backend, source, rings);
}

/**
 * The default backend of readers: the one that `FASTSAFETENSORS_BACKEND` names, else "usrbio" if
 * {@linkcode isAvailable}, else "posix".
 *
 * @throws {TypeError} if `FASTSAFETENSORS_BACKEND` names none of "auto", "usrbio", "posix" and "mock"
 */
export async function getBackend(): Promise<Backend> {
  const asked = requestedBackend();
  if (asked !== "auto") return asked;
  return await isAvailable() ? "usrbio" : "posix";
}

/** Whether the 3FS library can be used. */
export async function isAvailable(): Promise<boolean> {
  return await getHf3fsLibPath() !== null;
}

/** The path of the 3FS library; null if it was not found or cannot be used. */
export async function getHf3fsLibPath(): Promise<string | null> {
  try {
    const library = await openUsrbio(await needShim());
    return library.handle === null ? null : library.path;
  } catch (error) {
    if (error instanceof DeviceError) return null;
    throw error;
  }
}

/**
 * The mount point of 3FS for a path; null if the path is not on 3FS, or the 3FS library is not available.
 *
 * @throws {ReadError} if the path does not exist
 */
export async function extractMountPoint(path: string): Promise<string | null> {
  const absolute = absolutePath(path);
  if (!await isAvailable()) return null;
  const shim = await needShim();
  const library = await openUsrbio(shim);
  if (library.handle === null) return null;
  try {
    await Deno.stat(absolute); // also asks for the permission to read it
    return await mountPointOf(shim, library.handle, absolute);
  } catch (error) {
    throw readError(error, "open", path);
  }
}
