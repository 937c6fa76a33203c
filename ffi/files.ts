/**
 * Files and memory through the shim: its status codes become values and errors here.
 */
import { Handle } from "./handle.ts";
import type { Shim } from "./symbols.ts";

/** The descriptors of an open file. They are reached through its handle only. */
export interface Descriptors {
  /** For reads through the page cache. */
  readonly fd: number;
  /** For direct reads, or -1: see {@linkcode openDirect}. */
  fdDirect: number;
  /** What must be undone before they are closed. */
  release: (() => Promise<void>) | null;
}

/** A file opened by the shim. */
export interface OpenedFile {
  /** Its descriptors, which are closed with it. */
  readonly handle: Handle<Descriptors>;
  /** Bytes. */
  readonly size: number;
  /** Modification time, whole seconds. */
  readonly mtimeSeconds: bigint;
  /** The rest of it, in nanoseconds. */
  readonly mtimeNanoseconds: bigint;
  /** The first bytes of the file. */
  readonly head: Uint8Array<ArrayBuffer>;
}

/** A refusal of the system. */
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
 * Opens a regular file and reads up to `headBytes` of its head in one go.
 *
 * @throws {SystemError} if the system refuses, or the path is not a regular file
 */
export async function openFile(shim: Shim, path: string, headBytes: number): Promise<OpenedFile> {
  const info = new DataView(new ArrayBuffer(40));
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
  };
}

/**
 * Reads into `target` until it is full or the file ends.
 *
 * @returns how many bytes there were
 * @throws {SystemError} if the system refuses
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

/** Opens a file for direct reads too; false where the file system refuses. */
export async function openDirect(shim: Shim, descriptors: Descriptors): Promise<boolean> {
  descriptors.fdDirect = Math.max(-1, await shim.fst_file_open_direct(descriptors.fd));
  return descriptors.fdDirect >= 0;
}

/** Bytes of the file that the page cache holds, or -1 where the system cannot tell. */
export function cachedBytes(shim: Shim, fd: number, offset: number, length: number): number {
  return Math.max(-1, Number(shim.fst_file_cached(fd, BigInt(offset), BigInt(length))));
}

/** Bytes that may still be allocated, or -1 where the system cannot tell. */
export function availableMemory(shim: Shim): number {
  return Math.max(-1, Number(shim.fst_memory_available()));
}
