/**
 * Writes files through the shim: converts status codes to errors.
 */
import { type DType, DTYPES } from "../src/base/dtype.ts";
import { SystemError } from "./files.ts";
import type { Shim } from "./symbols.ts";

const encoder = new TextEncoder();

function cString(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(`${text}\0`);
}

function check(status: number): number {
  if (status < 0) throw new SystemError(-status);
  return status;
}

const HUGE_PAGE = 2 * 2 ** 20;

/** Allocates memory at a multiple of 2 MiB, on huge pages if available. */
export function alignedMemory(shim: Shim, byteLength: number): Uint8Array<ArrayBuffer> {
  const memory = new Uint8Array(byteLength + HUGE_PAGE); // what is not touched costs nothing
  const at = HUGE_PAGE - Number(shim.fst_address(memory)) % HUGE_PAGE;
  shim.fst_memory_advise(memory, BigInt(at), BigInt(byteLength));
  return memory.subarray(at, at + byteLength);
}

/** Creates a file that must not exist, locked until the descriptor is closed. Every function throws SystemError. */
export async function createFile(shim: Shim, path: string, mode: number): Promise<number> {
  return check(await shim.fst_write_create(cString(path), mode));
}

/** Opens an existing file for reads, and for writes too. */
export async function openExisting(shim: Shim, path: string, writes: boolean): Promise<number> {
  return check(await shim.fst_write_open(cString(path), writes ? 1 : 0));
}

/** Opens a second descriptor of a file for direct writes; -1 if the file system does not support them. */
export function openDirectWrite(shim: Shim, fd: number): number {
  return Math.max(-1, shim.fst_write_open_direct(fd));
}

/** Sets the size of a file and reserves the space. */
export async function allocateFile(shim: Shim, fd: number, size: number): Promise<void> {
  check(await shim.fst_write_allocate(fd, BigInt(size)));
}

/** A range to write. */
export interface WriteRange {
  /** Descriptor of the file. */
  readonly fd: number;
  /** A second descriptor for direct writes, or -1. */
  readonly fdDirect: number;
  /** Byte offset in the file. */
  readonly offset: number;
  /** Number of elements; of bytes without a cast. */
  readonly count: number;
  /** Element type in memory. */
  readonly from: DType;
  /** Element type in the file. */
  readonly to: DType;
}

/**
 * Writes `range.count` elements of `source`, with a cast if `from` and `to` differ.
 *
 * @param staging page-aligned memory that no other call uses meanwhile, for bytes that cannot be written from `source`
 */
export async function writeRange(
  shim: Shim,
  source: Uint8Array<ArrayBuffer>,
  range: WriteRange,
  staging: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const { fd, fdDirect, count, offset, from, to } = range;
  const codes = [DTYPES.indexOf(from), DTYPES.indexOf(to)] as const;
  const room = BigInt(staging.byteLength);
  check(
    await shim.fst_write_range(fd, fdDirect, source, BigInt(count), BigInt(offset), ...codes, staging, room),
  );
}

/** Syncs a file to storage. */
export async function syncFile(shim: Shim, fd: number): Promise<void> {
  check(await shim.fst_write_sync(fd));
}

/** Renames a file; without `replace` it fails with EEXIST if the new path exists. */
export async function renamePath(shim: Shim, from: string, to: string, replace: boolean): Promise<void> {
  check(await shim.fst_path_rename(cString(from), cString(to), replace ? 1 : 0));
}

/** Syncs the names in a folder to storage. */
export async function syncFolder(shim: Shim, path: string): Promise<void> {
  check(await shim.fst_folder_sync(cString(path)));
}
