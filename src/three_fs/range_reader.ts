/** Reads headers and ranges of files, one range at a time. */
import { absolutePath } from "../files/native/local_path.ts";
import { workingFolder } from "../files/native/working_folder.ts";
import { cudaError } from "../../ffi/cuda.ts";
import { Handle } from "../../ffi/handle.ts";
import type { Shim } from "../../ffi/symbols.ts";
import {
  openMount,
  posixLibrary,
  type RangeFailure,
  type RangeRequest,
  readRange,
  ringErrorText,
  type RingOptions,
} from "../../ffi/usrbio.ts";
import { checkBoolean, checkInteger, checkKeys, checkSignal, describeValue, keysOf } from "../base/check.ts";
import { DeviceError, ReadError, SafeTensorsError } from "../base/errors.ts";
import { headerLength } from "../format/header_reader.ts";
import { quote } from "../base/text.ts";
import { handled } from "../base/handled.ts";
import { returnCalls, takeCalls } from "../load/native/lane_budget.ts";
import type { NativeFile } from "../files/native/native_file.ts";
import { closeAll, type Source } from "../files/source.ts";
import type { Backend } from "./backend.ts";

/** The header of a file, unparsed. */
export interface FileHeader {
  /** Its JSON. */
  readonly json: string;
  /** Bytes before the tensors: 8, and those of the JSON. */
  readonly headerLength: number;
  /** Bytes of the file. */
  readonly fileSize: number;
}

/** A range to read, and its destination. */
export interface ReadChunkedOptions {
  /** The file. */
  path: string;
  /**
   * Device memory to read to, of at least `totalLength` bytes. Without this or `buffer`, the bytes are dropped.
   */
  devicePointer?: bigint;
  /** The index of its CUDA device. Default 0. */
  device?: number;
  /** Host memory to read to, of at least `totalLength` bytes. It must not be transferred meanwhile. */
  buffer?: Uint8Array<ArrayBuffer>;
  /** The offset in the file, in bytes. Default 0. */
  fileOffset?: number;
  /** Bytes to read; fewer are read at the end of the file. */
  totalLength: number;
  /** Bytes of one request; the reader's buffer limits the number in flight. Default: all of it. */
  chunkBytes?: number;
  /** Reads into one half of the reader's buffer while the other half is copied. Default false. */
  pipelined?: boolean;
  /** Cancels the read. */
  signal?: AbortSignal;
}

/**
 * Reads headers and ranges of files. Every file that was read stays open, and one range at a time is read into
 * one buffer of `bufferBytes`.
 */
export interface RangeReader extends AsyncDisposable {
  /** The backend that it uses if possible. */
  readonly backend: Backend;
  /** The reasons why some files are read in another way. */
  readonly notes: readonly string[];
  /**
   * Reads the headers of files, `threads` at once (default 8).
   *
   * @returns path → header
   * @throws {ReadError} if a file cannot be opened or read
   * @throws {SafeTensorsError} if a file has no header
   * @throws {DeviceError} if a file is not on 3FS, but the backend is "usrbio"
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  readHeadersBatch(
    paths: readonly string[],
    options?: { threads?: number },
  ): Promise<Map<string, FileHeader>>;
  /**
   * Reads a range of a file to host or device memory.
   *
   * @returns the number of bytes read: less than `totalLength` only at the end of the file
   * @throws {TypeError} if both a buffer and a device pointer are given
   * @throws {RangeError} if a number is outside its limits, or the buffer is too small
   * @throws {ReadError} if the file cannot be opened or read
   * @throws {DeviceError} if the device fails, or the file is not on 3FS, but the backend is "usrbio"
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  readChunked(options: ReadChunkedOptions): Promise<number>;
  /** Waits for the running read, closes the files and frees the buffer. */
  close(): Promise<void>;
}

const READ_KEYS = keysOf<ReadChunkedOptions>({
  path: true,
  devicePointer: true,
  device: true,
  buffer: true,
  fileOffset: true,
  totalLength: true,
  chunkBytes: true,
  pipelined: true,
  signal: true,
});

/** The signal of a read that cannot be cancelled. */
const NEVER = new AbortController().signal;

/** A reader over a source; files without rings use ordinary reads. */
export class SourceReader implements RangeReader {
  readonly backend: Backend;
  readonly #shim: Shim;
  readonly #source: Source<NativeFile>;
  readonly #rings: RingOptions;
  /** The opened files; every read uses this handle. */
  readonly #files: Handle<Map<string, Promise<NativeFile>>>;
  /** The buffer for ordinary reads, after the first one. */
  #posix: Promise<Handle> | undefined;
  /** Settles when the previous read has ended. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(shim: Shim, backend: Backend, source: Source<NativeFile>, rings: RingOptions) {
    this.#shim = shim;
    this.backend = backend;
    this.#source = source;
    this.#rings = rings;
    this.#files = new Handle("the reader", new Map(), (files) => this.#close(files));
  }

  get notes(): readonly string[] {
    return this.#source.notes ?? [];
  }

  readHeadersBatch(
    paths: readonly string[],
    options: { threads?: number } = {},
  ): Promise<Map<string, FileHeader>> {
    return handled(this.#readHeadersBatch(paths, options));
  }

  async #readHeadersBatch(
    paths: readonly string[],
    options: { threads?: number },
  ): Promise<Map<string, FileHeader>> {
    checkKeys("readHeadersBatch()", options, ["threads"]);
    if (!Array.isArray(paths)) throw new TypeError(`paths must be an array, got ${describeValue(paths)}`);
    for (const path of paths) checkPath(path);
    const threads = checkInteger("threads", options.threads, { byDefault: 8, least: 1, most: 32 });
    const folder = workingFolder();
    return await this.#files.use("read headers", async (files) => {
      const headers = new Array<FileHeader>(paths.length);
      let next = 0;
      const readNext = async () => {
        while (next < paths.length) {
          const index = next++;
          headers[index] = await readHeader(await this.#open(files, paths[index]!, folder));
        }
      };
      const results = await Promise.allSettled(Array.from({ length: threads }, readNext));
      for (const result of results) if (result.status === "rejected") throw result.reason;
      return new Map(paths.map((path, index) => [path, headers[index]!]));
    });
  }

  readChunked(options: ReadChunkedOptions): Promise<number> {
    return handled(this.#readChunked(options));
  }

  async #readChunked(options: ReadChunkedOptions): Promise<number> {
    checkKeys("readChunked()", options, READ_KEYS);
    const { path, signal = NEVER, pipelined = false } = options;
    checkPath(path);
    checkBoolean("pipelined", options.pipelined);
    checkSignal("signal", options.signal);
    const fileOffset = checkInteger("fileOffset", options.fileOffset, { byDefault: 0, least: 0 });
    const totalLength = checkInteger("totalLength", options.totalLength ?? NaN, { byDefault: 0, least: 0 });
    const chunkBytes = checkInteger("chunkBytes", options.chunkBytes, { byDefault: 0, least: 0 });
    const target = targetOf(options);
    const folder = workingFolder();
    return await this.#files.use(`read ${quote(path)}`, async (files) => {
      signal.throwIfAborted();
      const file = await this.#open(files, path, folder);
      const length = Math.max(0, Math.min(totalLength, file.size - fileOffset));
      if (length === 0) return 0;
      const range = { offset: fileOffset, length, chunkBytes, pipelined };
      const bytes = target instanceof Uint8Array ? target.subarray(0, length) : target;
      await this.#inTurn(() => this.#read(file, { ...range, target: bytes }, signal));
      return length;
    });
  }

  close(): Promise<void> {
    return this.#files.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #read(file: NativeFile, request: Omit<RangeRequest, "fd">, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const mount = file.reader?.mount ?? await this.#privateBuffer();
    const stop = new Int32Array(1);
    const abort = () => Atomics.store(stop, 0, 1);
    const calls = await takeCalls(1, 1, signal);
    signal.addEventListener("abort", abort);
    try {
      const outcome = await file.use(
        "read",
        ({ fd }) => mount.use("read", (handle) => readRange(this.#shim, handle, { ...request, fd }, stop)),
      );
      if (outcome) throw outcome.failure ? rangeError(this.#shim, file.path, outcome.failure) : signal.reason;
    } finally {
      signal.removeEventListener("abort", abort);
      returnCalls(calls);
    }
  }

  /** Runs reads one after another, because there is one buffer. */
  #inTurn<T>(read: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(read);
    this.#turn = result.catch(() => {});
    return result;
  }

  #open(
    files: Map<string, Promise<NativeFile>>,
    path: string,
    folder: string | undefined,
  ): Promise<NativeFile> {
    const absolute = absolutePath(path, folder);
    let file = files.get(absolute);
    if (!file) {
      file = this.#source.open(path, folder);
      files.set(absolute, file);
      file.catch(() => files.delete(absolute)); // another call can try again
    }
    return file;
  }

  /** Returns the buffer for ordinary reads. */
  #privateBuffer(): Promise<Handle> {
    if (!this.#posix) {
      this.#posix = openPosix(this.#shim, this.#rings);
      this.#posix.catch(() => this.#posix = undefined); // another call can try again
    }
    return this.#posix;
  }

  async #close(files: Map<string, Promise<NativeFile>>): Promise<void> {
    const opened = await Promise.allSettled(files.values());
    await closeAll(opened.map((file) => file.status === "fulfilled" ? file.value : undefined));
    await (await this.#posix)?.close();
  }
}

async function openPosix(shim: Shim, rings: RingOptions): Promise<Handle> {
  const opened = await openMount(shim, posixLibrary(shim), "/", rings);
  if (opened.mount !== null) return opened.mount;
  throw new DeviceError(`Cannot make a buffer of ${rings.ringBytes} bytes: ${opened.reason}`, {
    library: "posix",
    code: opened.errno,
  });
}

async function readHeader(file: NativeFile): Promise<FileHeader> {
  const { path, size, head } = file;
  const first = head.byteLength > 0 ? head : await readBytes(file, 0, Math.min(8, size));
  const length = headerLength(first, size, { path });
  const bytes = first.byteLength >= 8 + length
    ? first.subarray(8, 8 + length)
    : await readBytes(file, 8, length);
  try {
    const json = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { json, headerLength: 8 + length, fileSize: size };
  } catch (cause) {
    const message = `Cannot read the header of ${quote(path)}: it is not UTF-8`;
    throw new SafeTensorsError("InvalidHeader", message, { path, cause });
  }
}

async function readBytes(file: NativeFile, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await file.read(offset, bytes);
  return bytes;
}

function targetOf(options: ReadChunkedOptions): RangeRequest["target"] {
  const { buffer, devicePointer, totalLength } = options;
  if (buffer && devicePointer !== undefined) {
    throw new TypeError("Cannot read to both a buffer and a device: give one of buffer and devicePointer");
  }
  if (devicePointer !== undefined) {
    const device = checkInteger("device", options.device, { byDefault: 0, least: 0, most: 63 });
    if (typeof devicePointer !== "bigint") {
      throw new TypeError(`devicePointer must be a bigint, got ${describeValue(devicePointer)}`);
    }
    if (devicePointer <= 0n) throw new RangeError(`devicePointer must be an address, got ${devicePointer}`);
    return { device, address: devicePointer };
  }
  if (buffer !== undefined && !(buffer instanceof Uint8Array)) {
    throw new TypeError(`buffer must be a Uint8Array, got ${describeValue(buffer)}`);
  }
  if (buffer && buffer.byteLength < totalLength) {
    throw new RangeError(
      `The buffer is too small: ${totalLength} bytes are to be read, it has ${buffer.byteLength}`,
    );
  }
  return buffer ?? null;
}

function checkPath(path: unknown): void {
  if (typeof path !== "string") throw new TypeError(`A path must be a string, got ${describeValue(path)}`);
}

function rangeError(shim: Shim, path: string, failure: NonNullable<RangeFailure>): Error {
  const { kind, errno, offset, expected, actual } = failure;
  if (kind === "device") return cudaError(shim, `read ${quote(path)} to the device`, errno);
  const at = `Cannot read ${quote(path)}: ${expected} bytes expected at offset ${offset}`;
  const message = kind === "system"
    ? `${at}: ${ringErrorText(errno)}`
    : `${at}, ${actual} found: was it truncated?`;
  return new ReadError(message, { path, offset, expected, actual, errno });
}
