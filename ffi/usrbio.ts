/**
 * 3FS through the shim: its structs become objects, its statuses errors.
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

/** 3FS' library, or why there is none. */
export type UsrbioLibrary =
  | { readonly handle: bigint; readonly path: string }
  | { readonly handle: null; readonly reason: string };

/** Rings of a mount: `fst_usrbio_options` in native/fst_usrbio.h. */
export interface RingOptions {
  /** Requests in one ring. */
  readonly entries: number;
  /** 0 or below. */
  readonly ioDepth: number;
  /** Bytes of one ring's memory: a multiple of 8192; there may be room for less. */
  readonly ringBytes: number;
  /** Rings that there may be at once. */
  readonly rings: number;
  /** The memory's node, or -1. */
  readonly numa: number;
  /** Without a completion; 0: for ever. */
  readonly timeoutMilliseconds: number;
}

/** A range to read outside any plan: `fst_usrbio_request` in native/fst_usrbio.h. */
export interface RangeRequest {
  /** Descriptor of a registered file. */
  readonly fd: number;
  /** In bytes. */
  readonly offset: number;
  /** Bytes; all of them must be in the file. */
  readonly length: number;
  /** Bytes of one request; 0: as many as fit. */
  readonly chunkBytes: number;
  /** Reads into one half of the ring's memory while the other half is copied. */
  readonly pipelined: boolean;
  /** Where the bytes go; null: nowhere. */
  readonly target: Uint8Array<ArrayBuffer> | { readonly device: number; readonly address: bigint } | null;
}

/** How a range failed; null: it was stopped. */
export type RangeFailure = Omit<PlanFailure, "segment"> | null;

const FAILURES = [null, "system", "truncated", "changed", "device"] as const;
const DROP = 0, HOST = 1, CUDA = 2;

const encoder = new TextEncoder();

/** Opens 3FS' library. That there is none is no error. */
export async function findUsrbio(shim: Shim): Promise<UsrbioLibrary> {
  passEnvironment(shim);
  const handle = new BigUint64Array(1);
  const path = newMessage(), reason = newMessage();
  const status = await shim.fst_usrbio_find(handle, path, reason, MESSAGE_BYTES);
  if (status === 0) return { handle: handle[0]!, path: textOf(path) };
  return { handle: null, reason: textOf(reason) || systemErrorText(-status) };
}

/** The same functions over ordinary reads. */
export function posixLibrary(shim: Shim): bigint {
  return shim.fst_usrbio_posix();
}

/** Whether the file system of an open file is mounted as 3FS, as far as the system knows. */
export async function isMountedAs3fs(shim: Shim, fd: number): Promise<boolean> {
  return await shim.fst_usrbio_is_mounted(fd) === 1;
}

/** Whether an open file is on 3FS. */
export async function isOn3fs(shim: Shim, library: bigint, fd: number): Promise<boolean> {
  return await shim.fst_usrbio_is_3fs(library, fd) === 1;
}

/**
 * Where the 3FS that a path is on is mounted; null where that is no 3FS.
 *
 * @throws {SystemError} if there is no such path
 */
export async function mountPointOf(shim: Shim, library: bigint, path: string): Promise<string | null> {
  const mount = new Uint8Array(256);
  const length = await shim.fst_usrbio_mount_point(library, encoder.encode(`${path}\0`), mount, 256n);
  if (length < 0) throw new SystemError(-length);
  return length === 0 ? null : textOf(mount);
}

/** An open mount, or why it does not answer. */
export type OpenedMount =
  | { readonly mount: Handle }
  | { readonly mount: null; readonly errno: number; readonly reason: string };

/** Prepares to read from a mount. All that is read from it in this process shares its rings. */
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

/** What a read through rings failed of. Only shared memory can be too small for a read. */
export function ringErrorText(errno: number): string {
  const text = systemErrorText(errno);
  if (errno !== constants.errno.ENOSPC) return text;
  return `${text}: /dev/shm is full: enlarge it (docker run --shm-size), or lower usrbio.bufferBytes`;
}

/**
 * Makes an open file readable through rings, until it is closed.
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
 * Reads a range outside any plan.
 *
 * @param stop set to 1 by somebody else to end it
 * @returns undefined once all is where it belongs
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
