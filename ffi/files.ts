/**
 * Files and memory through the shim: converts status codes to values and errors.
 */
import { Handle } from "./handle.ts";
import type { Shim } from "./symbols.ts";

/** The descriptors of an open file, which only its handle can access. */
export interface Descriptors {
  /** Descriptor for reads through the page cache. */
  readonly fd: number;
  /** Descriptor for direct reads, or -1: see {@linkcode openDirect}. */
  fdDirect: number;
  /** Functions to call before the descriptors are closed. */
  release: (() => Promise<void>) | null;
}

/** A file that the shim has opened. */
export interface OpenedFile {
  /** The handle of its descriptors. */
  readonly handle: Handle<Descriptors>;
  /** Size in bytes. */
  readonly size: number;
  /** Modification time, whole seconds. */
  readonly mtimeSeconds: bigint;
  /** The nanoseconds of the modification time. */
  readonly mtimeNanoseconds: bigint;
  /** The first bytes of the file. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** How long it took to read them, in microseconds. */
  readonly headMicroseconds: number;
}

/** An error of the system. */
export class SystemError extends Error {
  override readonly name = "SystemError";
  /** The system's error number. */
  readonly errno: number;

  constructor(errno: number) {
    super(`System error ${errno}`);
    this.errno = errno;
  }
}

const encoder = new TextEncoder();

/**
 * Opens a regular file and reads up to `headBytes` of its head in one call.
 *
 * @throws {SystemError} if the system reports an error, or the path is not a regular file
 */
export async function openFile(shim: Shim, path: string, headBytes: number): Promise<OpenedFile> {
  const info = new DataView(new ArrayBuffer(48));
  const head = new Uint8Array(headBytes);
  const name = encoder.encode(`${path}\0`);
  const status = await shim.fst_file_open(name, info.buffer, head, BigInt(headBytes));
  if (status < 0) throw new SystemError(-status);
  const descriptors: Descriptors = { fd: info.getInt32(0, true), fdDirect: -1, release: null };
  const handle = new Handle("the file", descriptors, async ({ fd, fdDirect, release }) => {
    await release?.();
    await shim.fst_file_release(fd, fdDirect);
  });
  const headErrno = info.getInt32(4, true);
  if (headErrno > 0) {
    await handle.close();
    throw new SystemError(headErrno);
  }
  return {
    handle,
    size: Number(info.getBigUint64(8, true)),
    mtimeSeconds: info.getBigInt64(16, true),
    mtimeNanoseconds: info.getBigInt64(24, true),
    head: head.subarray(0, Number(info.getBigUint64(32, true))),
    headMicroseconds: Number(info.getBigUint64(40, true)),
  };
}

/**
 * Reads into `target` until it is full or the file ends.
 *
 * @returns the number of bytes read
 * @throws {SystemError} if the system reports an error
 */
export async function readFile(
  shim: Shim,
  fd: number,
  target: Uint8Array<ArrayBuffer>,
  offset: number,
): Promise<number> {
  const got = Number(await shim.fst_file_read(fd, target, BigInt(target.byteLength), BigInt(offset)));
  if (got < 0) throw new SystemError(-got);
  return got;
}

/**
 * Fills `target` from the page cache, without waiting for storage; false if it does not have all bytes, if the system
 * cannot, or if the file has changed since it was opened.
 */
export function readCached(
  shim: Shim,
  { fd }: Descriptors,
  { size, mtimeSeconds, mtimeNanoseconds }: OpenedFile,
  target: Uint8Array<ArrayBuffer>,
  offset: number,
): boolean {
  const range = [BigInt(target.byteLength), BigInt(offset)] as const;
  return shim.fst_file_read_cached(fd, target, ...range, BigInt(size), mtimeSeconds, mtimeNanoseconds) === 1;
}

/** Opens a file for direct reads too; returns false if the file system does not support them. */
export async function openDirect(shim: Shim, descriptors: Descriptors): Promise<boolean> {
  descriptors.fdDirect = Math.max(-1, await shim.fst_file_open_direct(descriptors.fd));
  return descriptors.fdDirect >= 0;
}

/** Returns the bytes of the file in the page cache, or -1 if the system cannot query them. */
export function cachedBytes(shim: Shim, fd: number, offset: number, length: number): number {
  return Math.max(-1, Number(shim.fst_file_cached(fd, BigInt(offset), BigInt(length))));
}

/** Returns the bytes that can still be allocated, or -1 if unknown. */
export function availableMemory(shim: Shim): number {
  return Math.max(-1, Number(shim.fst_memory_available()));
}
