/**
 * Selects the source of files.
 */
import { quote } from "../base/text.ts";
import { NativeFileSource } from "../files/native/native_file.ts";
import type { Engine } from "../load/engine.ts";
import { needShim, requestedBackend } from "../three_fs/backend.ts";
import { type CheckedUsrbioOptions, mostRings, ringOptions } from "../three_fs/options.ts";
import type { Source, UrlSource } from "../files/source.ts";
import { ThreeFsReaders } from "../three_fs/lane_readers.ts";

/** The values of the option `source`. */
export type SourceOption = "3fs" | "file" | Source | UrlSource;

/** A source that opens files itself. */
export type ChosenSource = "3fs" | "file" | Source;

/** The options that the selection depends on. */
export interface SourceChoice {
  /** The option `source`, if it is set. */
  readonly source: ChosenSource | undefined;
  /** Options for files on 3FS. */
  readonly usrbio: CheckedUsrbioOptions;
  /** The option `maxThreads`. */
  readonly maxThreads: number | undefined;
}

/** Lanes of a load from 3FS: enough requests in flight for a fast network, and enough cores to copy their bytes. */
const LANES = Math.min(8, Math.max(2, navigator.hardwareConcurrency));

/**
 * Returns the source that opens the files.
 *
 * @throws {TypeError} if `source` is not set and `FASTSAFETENSORS_BACKEND` is not the name of a backend
 * @throws {DeviceError} if `source` is "3fs" and the native library is not available
 */
export async function selectSource(engine: Engine, choice: SourceChoice): Promise<Source> {
  if (typeof choice.source === "object") return choice.source;
  if (choice.source === "file") return engine.source;
  const backend = requestedBackend();
  if (backend === "posix" || backend === "mock") {
    if (choice.source !== "3fs") return engine.source;
    const note = `Files on 3FS use ordinary reads: FASTSAFETENSORS_BACKEND is ${quote(backend)}`;
    return { name: engine.source.name, notes: [note], open: (...named) => engine.source.open(...named) };
  }
  const required = choice.source === "3fs" || backend === "usrbio";
  if (engine.name === "portable" && !required) return engine.source;
  const lanes = Math.min(choice.maxThreads ?? LANES, mostRings(choice.usrbio));
  const shim = await needShim();
  const readers = new ThreeFsReaders(shim, {
    required,
    rings: ringOptions(choice.usrbio, lanes),
    lanes,
    mountPoint: choice.usrbio.mountPoint,
  });
  return new NativeFileSource(shim, readers);
}
