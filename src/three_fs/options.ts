/**
 * The options of reading through 3FS' rings: their defaults and their limits.
 */
import type { RingOptions } from "../../ffi/usrbio.ts";
import { checkInteger, checkKeys, describeValue, keysOf } from "../base/check.ts";

/** Options for reading files on 3FS. */
export interface UsrbioOptions {
  /** Requests in one ring, 1 to 4096; each lane has a ring. Default 64. */
  entries?: number;
  /**
   * 0: requests are processed as they come; -n: at most n at a time. A positive depth would delay requests until
   * that many are queued, and the last ones for ever, so it is refused. Default 0.
   */
  ioDepth?: number;
  /**
   * Memory in bytes for the reads, shared with 3FS: 1 MiB to 16 GiB. All loads, models and readers of the process
   * on one mount share it; with different sizes, the largest is used. It is smaller if /dev/shm has less than
   * twice that free. Default 64 MiB.
   */
  bufferBytes?: number;
  /** The memory node of that memory; -1: any node. Default -1. */
  numa?: number;
  /** Seconds in which no request completes until a load gives up; 0: never. Default 30. */
  timeoutSeconds?: number;
  /** Only files on the 3FS mounted here are read through it. Default: any mount. */
  mountPoint?: string;
}

/** {@linkcode UsrbioOptions} with defaults, after the checks. */
export interface CheckedUsrbioOptions {
  readonly entries: number;
  readonly ioDepth: number;
  readonly bufferBytes: number;
  readonly numa: number;
  readonly timeoutSeconds: number;
  readonly mountPoint: string | undefined;
}

/** The least memory of a ring, in bytes: two halves of a few pages. */
const LEAST_RING = 128 * 1024;

/** The ring's memory has two halves of whole pages. */
const RING_STEP = 8192;

const USRBIO_KEYS = keysOf<UsrbioOptions>({
  entries: true,
  ioDepth: true,
  bufferBytes: true,
  numa: true,
  timeoutSeconds: true,
  mountPoint: true,
});

/**
 * Checks options and fills in defaults.
 *
 * @param call the function with these options, for errors
 * @param more keys that the caller checks itself
 * @throws {TypeError} if a value is not of its type, or a key is unknown
 * @throws {RangeError} if a number is outside its limits
 */
export function checkUsrbioOptions(
  options: UsrbioOptions = {},
  call = "usrbio",
  more: readonly string[] = [],
): CheckedUsrbioOptions {
  checkKeys(call, options, [...USRBIO_KEYS, ...more]);
  const { mountPoint } = options;
  if (mountPoint !== undefined && (typeof mountPoint !== "string" || !mountPoint.startsWith("/"))) {
    throw new TypeError(`usrbio.mountPoint must be an absolute path, got ${describeValue(mountPoint)}`);
  }
  return {
    entries: whole("entries", options.entries, 64, 1, 4096),
    ioDepth: whole("ioDepth", options.ioDepth, 0, -4096, 0),
    bufferBytes: whole("bufferBytes", options.bufferBytes, 64 * 2 ** 20, 2 ** 20, 16 * 2 ** 30),
    numa: whole("numa", options.numa, -1, -1, 1023),
    timeoutSeconds: seconds(options.timeoutSeconds),
    mountPoint: mountPoint?.replace(/(?<=.)\/+$/, ""),
  };
}

/** The ring options for this many lanes. */
export function ringOptions(options: CheckedUsrbioOptions, lanes: number): RingOptions {
  const share = Math.floor(options.bufferBytes / lanes / RING_STEP) * RING_STEP;
  return {
    entries: options.entries,
    ioDepth: options.ioDepth,
    ringBytes: Math.max(LEAST_RING, share),
    rings: lanes,
    numa: options.numa,
    timeoutMilliseconds: Math.ceil(options.timeoutSeconds * 1000),
  };
}

/** The most lanes that the memory is enough for. */
export function mostRings(options: CheckedUsrbioOptions): number {
  return Math.floor(options.bufferBytes / LEAST_RING);
}

function whole(name: string, value: unknown, byDefault: number, least: number, most: number): number {
  return checkInteger(`usrbio.${name}`, value, { byDefault, least, most });
}

function seconds(value: unknown): number {
  if (value === undefined) return 30;
  const name = "usrbio.timeoutSeconds";
  if (typeof value !== "number") throw new TypeError(`${name} must be a number, got ${describeValue(value)}`);
  if (value >= 0 && value <= 86_400) return value;
  throw new RangeError(`${name} must be a number from 0 to 86400, got ${value}`);
}
