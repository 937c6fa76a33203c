/**
 * The options of a load: their meaning, their defaults and their limits.
 */
import {
  checkBoolean,
  checkFunction,
  checkInteger,
  checkSignal,
  checkWord,
  describeValue,
  keysOf,
} from "../base/check.ts";
import { readConfiguration, withConfiguration } from "../deno/config.ts";
import type { GdsOption } from "../device/cuda/run.ts";
import { PinnedPool } from "../device/cuda/pinned_pool.ts";
import { checkDevice, type DeviceOption, isCudaName } from "../device/option.ts";
import { castTarget } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import { type ShardPlan, ShardRules } from "../format/shard_plan.ts";
import { quote } from "../base/text.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import type { Progress } from "../base/progress.ts";
import { PAGE } from "../load/layout.ts";
import type { LoadOptions } from "../load/load.ts";
import type { SourceOption } from "../deno/select_source.ts";
import { type CheckedUsrbioOptions, checkUsrbioOptions, type UsrbioOptions } from "../three_fs/options.ts";

/** Options of {@linkcode fastsafeOpen}, for the device `D`. */
export interface OpenOptions<D extends DeviceOption = "cpu"> {
  /** Where the tensors go. Default "cpu". */
  device?: D;
  /**
   * Casts floating tensors while they land: to F32, F16, BF16, F64 or an F8 type, rounded to nearest even. Integers,
   * booleans, complex and sub-byte types stay as they are. Default: nothing is cast.
   */
  dtype?: DType;
  /**
   * Loads only these tensors: a list of whole names, or a function that says of a name whether it is wanted. Patterns
   * are not understood: `*` is a character like others. Nothing else is read. Default: all.
   */
  names?: Iterable<string> | ((name: string) => boolean);
  /** Reads a tensor's bytes when it is asked for, instead of streaming all from the start. Default false. */
  lazy?: boolean;
  /**
   * Gives back the names that a save left out because they were the same tensor as another (`name → kept name` in the
   * metadata): they share the memory of the kept one. Default false.
   */
  restoreAliases?: boolean;
  /** Lanes that read at once, 1 to 16. Default: by the machine and by what the page cache holds. */
  maxThreads?: number;
  /** Bytes of one read: a multiple of 4096 up to 64 MiB. Default 4 MiB. */
  blockBytes?: number;
  /** Memory in bytes for what cannot be read straight to its place, all lanes together. Default 64 MiB. */
  stagingBytes?: number;
  /**
   * Whether a load to a GPU uses GPUDirect Storage, by which the device fetches from storage itself: "auto" where it is
   * really there and the page cache has not got the bytes, "require" always, or an error that says why not, "off"
   * never. `stats().path` tells which way the bytes went. Default "auto".
   */
  gds?: GdsOption;
  /** `nogds: true` is `gds: "off"`. Default false. */
  nogds?: boolean;
  /** Keeps the pinned staging memory of loads to a GPU for the next load. Default: it is pinned for each load. */
  pool?: PinnedPool;
  /**
   * Where files are read from: "3fs", through the rings of 3FS, or an error that says why not; "file", by ordinary
   * reads. Default: what `FASTSAFETENSORS_BACKEND` says ("usrbio" is "3fs", "posix" and "mock" are "file"), else files
   * on a 3FS mount through its rings, if its library is there and the mount answers, and by ordinary reads if not, which
   * `stats().notes` tells.
   *
   * Or a source of your own: `files` are then names that it opens, or an index that it opens, and never a folder. Its
   * files are read by their `read()`, with `maxThreads` reads at once (default 4), to the CPU or to WebGPU.
   */
  source?: SourceOption;
  /** How files on 3FS are read. */
  usrbio?: UsrbioOptions;
  /**
   * `GPUBufferUsage` flags that the buffers of tensors in WebGPU have besides STORAGE, COPY_SRC and COPY_DST, such as
   * VERTEX or INDIRECT. Default 0.
   */
  gpuBufferUsage?: number;
  /**
   * The ranks that load together. Each file is opened and read by one of them, file `i` by rank `i % size`; what a
   * tensor is asked for is then asked for by all, in the same order. Default: this process alone.
   */
  group?: ProcessGroup;
  /**
   * Loads this rank's part of every tensor, read by itself from files that all ranks can see: name patterns, and the
   * dimension along which the tensors that match are cut into one block for each rank of `group`. Of the group only
   * rank and size are used. Default: tensors are whole.
   */
  shardPlan?: ShardPlan;
  /** Ends the load; whatever has not landed then rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called about 20 times a second while the load runs, and once at its end. */
  onProgress?: (progress: Progress) => void;
  /** Writes what the load decides, line by line: to stderr, or to this function. Default false. */
  debugLog?: boolean | ((line: string) => void);
}

/** The keys of {@linkcode OpenOptions}. */
export const OPEN_KEYS = keysOf<OpenOptions>({
  device: true,
  dtype: true,
  names: true,
  lazy: true,
  restoreAliases: true,
  maxThreads: true,
  blockBytes: true,
  stagingBytes: true,
  gds: true,
  nogds: true,
  pool: true,
  source: true,
  usrbio: true,
  gpuBufferUsage: true,
  group: true,
  shardPlan: true,
  signal: true,
  onProgress: true,
  debugLog: true,
});

/** {@linkcode OpenOptions} with defaults filled in and everything checked. */
export interface CheckedOptions extends LoadOptions {
  readonly device: DeviceOption;
  readonly names: ReadonlySet<string> | ((name: string) => boolean) | undefined;
  readonly lazy: boolean;
  readonly restoreAliases: boolean;
  readonly gds: GdsOption;
  readonly pool: PinnedPool | undefined;
  readonly source: SourceOption | undefined;
  readonly usrbio: CheckedUsrbioOptions;
  readonly gpuBufferUsage: number;
}

const MAX_THREADS = 16;
const MAX_BLOCK = 64 * 2 ** 20;

/**
 * Checks the values of options and fills in what the configuration says, and defaults; the entry points check the keys.
 *
 * @throws {TypeError} if a value has the wrong type, or the dtype cannot be cast to
 * @throws {RangeError} if a number is outside its limits
 * @throws {SafeTensorsError} "InvalidConfig" if the configuration file is not valid
 */
export function checkOptions(given: OpenOptions<DeviceOption>, single: ProcessGroup): CheckedOptions {
  const options = withConfiguration(given, readConfiguration());
  castTarget("F32", options.dtype);
  const device = checkDevice(options.device);
  const blockBytes = checkInteger("blockBytes", options.blockBytes, {
    byDefault: 4 * 2 ** 20,
    least: PAGE,
    most: MAX_BLOCK,
  });
  if (blockBytes % PAGE !== 0) {
    throw new RangeError(`blockBytes must be a multiple of ${PAGE}, got ${blockBytes}`);
  }
  if (options.pool !== undefined && !(options.pool instanceof PinnedPool)) {
    throw new TypeError(`pool must be a PinnedPool, got ${describeValue(options.pool)}`);
  }
  for (const name of ["lazy", "restoreAliases", "nogds"] as const) checkBoolean(name, options[name]);
  checkSignal("signal", options.signal);
  checkFunction("onProgress", options.onProgress);
  return {
    device,
    dtype: options.dtype,
    names: wantedNames(options.names),
    lazy: options.lazy ?? false,
    restoreAliases: options.restoreAliases ?? false,
    maxThreads: options.maxThreads === undefined
      ? undefined
      : checkInteger("maxThreads", options.maxThreads, { byDefault: 1, least: 1, most: MAX_THREADS }),
    blockBytes,
    stagingBytes: checkInteger("stagingBytes", options.stagingBytes, {
      byDefault: 64 * 2 ** 20,
      least: 64 * 2 ** 10,
      most: 4 * 2 ** 30,
    }),
    gds: gdsOption(options, device),
    pool: options.pool,
    source: sourceOption(options, device),
    usrbio: checkUsrbioOptions(options.usrbio),
    gpuBufferUsage: bufferUsage(options.gpuBufferUsage),
    group: checkGroup("group", options.group) ?? single,
    shardPlan: options.shardPlan === undefined ? undefined : new ShardRules(options.shardPlan),
    signal: options.signal,
    onProgress: options.onProgress,
    log: logger(options.debugLog),
    startedAt: performance.now(),
  };
}

/**
 * @returns the group; undefined if it is missing
 * @throws {TypeError} if it is something else
 */
export function checkGroup(name: string, value: unknown): ProcessGroup | undefined {
  if (value === undefined) return undefined;
  const { rank, size } = (value ?? {}) as Partial<ProcessGroup>;
  if (Number.isInteger(rank) && Number.isInteger(size)) return value as ProcessGroup;
  throw new TypeError(`${name} must be a process group such as an MpiGroup, got ${describeValue(value)}`);
}

function wantedNames(names: unknown): CheckedOptions["names"] {
  if (names === undefined || typeof names === "function") return names as CheckedOptions["names"];
  const wanted =
    "names must be a list of whole names, or a function that says of a name whether it is wanted";
  // A text is a list too, of its letters.
  const isList = typeof names === "object" && names !== null && Symbol.iterator in names;
  if (!isList) {
    const hint = names instanceof RegExp ? ": give (name) => pattern.test(name)" : "";
    throw new TypeError(`${wanted}, got ${describeValue(names)}${hint}`);
  }
  const list = new Set(names as Iterable<string>);
  for (const name of list) {
    if (typeof name !== "string") throw new TypeError(`${wanted}, got a list with ${describeValue(name)}`);
  }
  return list;
}

function sourceOption(
  { source, gds }: OpenOptions<DeviceOption>,
  device: DeviceOption,
): SourceOption | undefined {
  if (typeof source === "object" && typeof source?.open === "function") {
    if (!isCudaName(device)) return source;
    throw new TypeError(
      `Cannot load to ${
        quote(device)
      } from a source of your own: it is read on the CPU: load to "cpu" or "webgpu"`,
    );
  }
  if (source !== undefined && source !== "3fs" && source !== "file") {
    throw new TypeError(
      `source must be "3fs", "file" or a source of your own, got ${describeValue(source)}`,
    );
  }
  if (gds !== "require") return source;
  if (source === "3fs") throw new TypeError('gds: "require" and source: "3fs" contradict one another');
  return "file";
}

function gdsOption({ gds, nogds }: OpenOptions<DeviceOption>, device: DeviceOption): GdsOption {
  checkWord("gds", gds, ["auto", "require", "off"]);
  if (gds === "require" && nogds) {
    throw new TypeError('gds: "require" and nogds: true contradict one another');
  }
  if (gds === "require" && !isCudaName(device)) {
    throw new TypeError('gds: "require" needs a CUDA GPU: give a device such as "cuda"');
  }
  return nogds ? "off" : gds ?? "auto";
}

/** Flags from COPY_SRC on: a buffer that can be mapped can be nothing else. */
function bufferUsage(flags: number | undefined): number {
  const usage = checkInteger("gpuBufferUsage", flags, { byDefault: 0, least: 0, most: 0x3ff });
  if (usage % 4 === 0) return usage;
  throw new RangeError(`gpuBufferUsage cannot have MAP_READ or MAP_WRITE, got ${usage}`);
}

function logger(debugLog: unknown): (line: string) => void {
  if (typeof debugLog === "function") return debugLog as (line: string) => void;
  if (debugLog !== undefined && typeof debugLog !== "boolean") {
    throw new TypeError(`debugLog must be true, false or a function, got ${describeValue(debugLog)}`);
  }
  return debugLog ? (line) => console.error(`fastsafetensors: ${line}`) : () => {};
}
