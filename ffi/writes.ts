/**
 * Writing files through the shim: its status codes become errors here.
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

/** New memory at a multiple of 2 MiB, on huge pages where there are some. */
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

/** A second descriptor of a file for direct writes, or -1 where the file system has none. */
export function openDirectWrite(shim: Shim, fd: number): number {
  return Math.max(-1, shim.fst_write_open_direct(fd));
}

/** Gives a file its size and reserves the space. */
export async function allocateFile(shim: Shim, fd: number, size: number): Promise<void> {
  check(await shim.fst_write_allocate(fd, BigInt(size)));
}

/** Where and how a range is written. */
export interface WriteRange {
  /** Descriptor. */
  readonly fd: number;
  /** A second descriptor for direct writes, or -1. */
  readonly fdDirect: number;
  /** Byte offset in the file. */
  readonly offset: number;
  /** Elements; bytes where nothing is cast. */
  readonly count: number;
  /** Element type in memory. */
  readonly from: DType;
  /** Element type in the file. */
  readonly to: DType;
}

/**
 * Writes `range.count` elements of `source`, cast on the way where `from` and `to` differ.
 *
 * @param staging page-aligned memory that nobody else uses meanwhile, for what cannot go straight from `source`
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

/** Waits until a file is on storage. */
export async function syncFile(shim: Shim, fd: number): Promise<void> {
  check(await shim.fst_write_sync(fd));
}

/** Renames; without `replace` it fails with EEXIST where the new path exists. */
export async function renamePath(shim: Shim, from: string, to: string, replace: boolean): Promise<void> {
  check(await shim.fst_path_rename(cString(from), cString(to), replace ? 1 : 0));
}

/** Waits until the names in a folder are on storage. */
export async function syncFolder(shim: Shim, path: string): Promise<void> {
  check(await shim.fst_folder_sync(cString(path)));
}
