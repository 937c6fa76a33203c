/**
 * Calls 3FS through the shim: converts structs to objects and statuses to errors.
 */
import { constants } from "node:os";
import { MESSAGE_BYTES, newMessage, textOf } from "./cuda.ts";
import { passEnvironment } from "./environment.ts";
import { type Descriptors, SystemError } from "./files.ts";
import { Handle } from "./handle.ts";
import type { PlanFailure } from "./plan_memory.ts";
import { systemErrorText } from "./status.ts";
import type { Shim } from "./symbols.ts";

/** `FST_READER_USRBIO` of native/plan.h. */
export const USRBIO_READER = 1;

/** The library of 3FS, or the reason why it is not available. */
export type UsrbioLibrary =
  | { readonly handle: bigint; readonly path: string }
  | { readonly handle: null; readonly reason: string };

/** Rings of a mount: `fst_usrbio_options` in native/fst_usrbio.h. */
export interface RingOptions {
  /** Requests in one ring. */
  readonly entries: number;
  /** `io_depth` of the ring: 0 or negative. */
  readonly ioDepth: number;
  /** Bytes of one ring's memory: a multiple of 8192. The ring gets less if shared memory is short. */
  readonly ringBytes: number;
  /** Most rings at once. */
  readonly rings: number;
  /** The memory node, or -1. */
  readonly numa: number;
  /** Longest time without a completion; 0: no limit. */
  readonly timeoutMilliseconds: number;
}

/** A range to read without a plan: `fst_usrbio_request` in native/fst_usrbio.h. */
export interface RangeRequest {
  /** Descriptor of a registered file. */
  readonly fd: number;
  /** File offset in bytes. */
  readonly offset: number;
  /** Length in bytes; the file must have all of them. */
  readonly length: number;
  /** Bytes of one request; 0: as many as possible. */
  readonly chunkBytes: number;
  /** Whether to read into one half of the ring's memory while the other half is copied. */
  readonly pipelined: boolean;
  /** The memory for the bytes; null: the bytes are discarded. */
  readonly target: Uint8Array<ArrayBuffer> | { readonly device: number; readonly address: bigint } | null;
}

/** The failure of a range; null: it was stopped. */
export type RangeFailure = Omit<PlanFailure, "segment"> | null;

const FAILURES = [null, "system", "truncated", "changed", "device"] as const;
const DROP = 0, HOST = 1, CUDA = 2;

const encoder = new TextEncoder();

/** Opens the library of 3FS. A machine without it is not an error. */
export async function findUsrbio(shim: Shim): Promise<UsrbioLibrary> {
  passEnvironment(shim);
  const handle = new BigUint64Array(1);
  const path = newMessage(), reason = newMessage();
  const status = await shim.fst_usrbio_find(handle, path, reason, MESSAGE_BYTES);
  if (status === 0) return { handle: handle[0]!, path: textOf(path) };
  return { handle: null, reason: textOf(reason) || systemErrorText(-status) };
}

/** Makes the same functions with ordinary reads. */
export function posixLibrary(shim: Shim): bigint {
  return shim.fst_usrbio_posix();
}

/** Whether the system lists the file system of an open file as 3FS. */
export async function isMountedAs3fs(shim: Shim, fd: number): Promise<boolean> {
  return await shim.fst_usrbio_is_mounted(fd) === 1;
}

/** Whether an open file is on 3FS. */
export async function isOn3fs(shim: Shim, library: bigint, fd: number): Promise<boolean> {
  return await shim.fst_usrbio_is_3fs(library, fd) === 1;
}

/**
 * Returns the mount point of a path's 3FS; null if the path is not on 3FS.
 *
 * @throws {SystemError} if the path does not exist
 */
export async function mountPointOf(shim: Shim, library: bigint, path: string): Promise<string | null> {
  const mount = new Uint8Array(256);
  const length = await shim.fst_usrbio_mount_point(library, encoder.encode(`${path}\0`), mount, 256n);
  if (length < 0) throw new SystemError(-length);
  return length === 0 ? null : textOf(mount);
}

/** An open mount, or the reason why it is not available. */
export type OpenedMount =
  | { readonly mount: Handle }
  | { readonly mount: null; readonly errno: number; readonly reason: string };

/** Opens a mount for reads. All reads of this process from the mount share its rings. */
export async function openMount(
  shim: Shim,
  library: bigint,
  mountPoint: string,
  options: RingOptions,
): Promise<OpenedMount> {
  const bytes = new DataView(new ArrayBuffer(32));
  bytes.setUint32(0, options.entries, true);
  bytes.setInt32(4, options.ioDepth, true);
  bytes.setBigUint64(8, BigInt(options.ringBytes), true);
  bytes.setInt32(16, options.numa, true);
  bytes.setUint32(20, options.timeoutMilliseconds, true);
  bytes.setUint32(24, options.rings, true);
  const mount = new BigUint64Array(1);
  const message = newMessage();
  const path = encoder.encode(`${mountPoint}\0`);
  const status = await shim.fst_usrbio_open(library, path, bytes.buffer, mount, message, MESSAGE_BYTES);
  if (status === 0) {
    return { mount: new Handle("the 3FS mount", mount[0]!, (mount) => shim.fst_usrbio_close(mount)) };
  }
  return { mount: null, errno: -status, reason: `${textOf(message)}: ${ringErrorText(-status)}` };
}

/** Describes the failure of a read through rings. A read fails with ENOSPC only if shared memory is too small. */
export function ringErrorText(errno: number): string {
  const text = systemErrorText(errno);
  if (errno !== constants.errno.ENOSPC) return text;
  return `${text}: /dev/shm is full: enlarge it (docker run --shm-size), or lower usrbio.bufferBytes`;
}

/**
 * Registers an open file for reads through rings, until it is closed.
 *
 * @returns 0, or the system's error number
 */
export async function registerFile(shim: Shim, library: bigint, file: Descriptors): Promise<number> {
  const { fd } = file;
  const status = await shim.fst_usrbio_register(library, fd);
  if (status === 0) file.release = () => shim.fst_usrbio_deregister(library, fd);
  return -status;
}

/**
 * Reads a range without a plan.
 *
 * @param stop the caller sets it to 1 to end the read
 * @returns undefined after all bytes have arrived
 */
export async function readRange(
  shim: Shim,
  mount: bigint,
  request: RangeRequest,
  stop: Int32Array<ArrayBuffer>,
): Promise<{ failure: RangeFailure } | undefined> {
  const { target } = request;
  const buffer = target instanceof Uint8Array ? target : null;
  const device = buffer === null && target !== null ? target as { device: number; address: bigint } : null;
  const bytes = new DataView(new ArrayBuffer(48));
  bytes.setInt32(0, request.fd, true);
  bytes.setUint32(4, request.pipelined ? 1 : 0, true);
  bytes.setBigUint64(8, BigInt(request.offset), true);
  bytes.setBigUint64(16, BigInt(request.length), true);
  bytes.setBigUint64(24, BigInt(request.chunkBytes), true);
  bytes.setUint32(32, buffer ? HOST : device ? CUDA : DROP, true);
  bytes.setInt32(36, device?.device ?? 0, true);
  bytes.setBigUint64(40, device?.address ?? 0n, true);
  const outcome = new DataView(new ArrayBuffer(32));
  if (await shim.fst_usrbio_read(mount, bytes.buffer, buffer, stop, outcome.buffer) === 0) return undefined;
  const kind = FAILURES[outcome.getUint32(0, true)] ?? null;
  if (kind === null) return { failure: null };
  return {
    failure: {
      kind,
      errno: outcome.getInt32(4, true),
      offset: Number(outcome.getBigUint64(8, true)),
      expected: Number(outcome.getBigUint64(16, true)),
      actual: Number(outcome.getBigUint64(24, true)),
    },
  };
}
