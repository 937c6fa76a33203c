/**
 * Choosing where files are read from.
 */
import { quote } from "../base/text.ts";
import { NativeFileSource } from "../files/native/native_file.ts";
import type { Engine } from "../load/engine.ts";
import { needShim, requestedBackend } from "../three_fs/backend.ts";
import { type CheckedUsrbioOptions, mostRings, ringOptions } from "../three_fs/options.ts";
import type { Source } from "../files/source.ts";
import { ThreeFsReaders } from "../three_fs/lane_readers.ts";

/** What the option `source` takes. */
export type SourceOption = "3fs" | "file" | Source;

/** What the choice depends on. */
export interface SourceChoice {
  /** What was demanded, if anything was. */
  readonly source: SourceOption | undefined;
  /** How to read files on 3FS. */
  readonly usrbio: CheckedUsrbioOptions;
  /** Lanes wanted. */
  readonly maxThreads: number | undefined;
}

/** Lanes of a load from 3FS: enough requests in flight for a fast network, and cores that copy what they bring. */
const LANES = Math.min(8, Math.max(2, navigator.hardwareConcurrency));

/**
 * The source that files are opened from.
 *
 * @throws {TypeError} if `FASTSAFETENSORS_BACKEND` is asked and names no backend
 * @throws {DeviceError} if 3FS is demanded and there is no native library
 */
export async function selectSource(engine: Engine, choice: SourceChoice): Promise<Source> {
  if (typeof choice.source === "object") return choice.source;
  if (choice.source === "file") return engine.source;
  const backend = requestedBackend();
  if (backend === "posix" || backend === "mock") {
    if (choice.source !== "3fs") return engine.source;
    const note = `Files on 3FS are read by ordinary reads: FASTSAFETENSORS_BACKEND is ${quote(backend)}`;
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
