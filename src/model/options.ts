/**
 * The options that every program can use to open a model: their meaning, defaults and limits.
 */
import {
  checkBlock,
  checkBoolean,
  checkFunction,
  checkInteger,
  checkKeys,
  checkSignal,
  describeValue,
  keysOf,
} from "../base/check.ts";
import type { FloatDType } from "../base/dtype.ts";
import { checkNames, type NameSelection, type TensorNames } from "../base/names.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import type { Progress } from "../base/progress.ts";
import { checkDevice, type DeviceOption } from "../base/device_name.ts";
import { castTarget } from "../format/cast.ts";
import { type ShardPlan, ShardRules } from "../format/shard_plan.ts";
import { PAGE } from "../load/layout.ts";
import type { DequantizeOptions } from "../load/dequantize.ts";
import type { LoadOptions } from "../load/load.ts";

/** Options to open a model on the device `D`, with floating tensors cast to `T`, in Deno or a browser. */
export interface ModelOptions<D extends DeviceOption = DeviceOption, T extends FloatDType = FloatDType> {
  /** The device of the tensors. Default "cpu". */
  device?: D;
  /**
   * Casts floating tensors while they land: to F32, F16, BF16, F64 or an F8 type, rounded to nearest even. Integers,
   * booleans, complex and sub-byte types are not cast. Default: nothing is cast.
   */
  dtype?: T;
  /**
   * Loads only these tensors: a name, a pattern in which `*` matches any characters, a RegExp, a list of these, or a
   * function that returns true for the name of a wanted tensor. Other tensors are not read. Default: all.
   */
  names?: TensorNames;
  /** Reads the bytes of a tensor on request, instead of all tensors from the start. Default false. */
  lazy?: boolean;
  /**
   * Restores aliases: names that a save left out because another name had the same tensor (`alias → saved name` in the
   * metadata). An alias shares the memory of the saved tensor. Default false.
   */
  restoreAliases?: boolean;
  /**
   * Multiplies tensors of 8-bit floats by their scales while they land, and hides the scales: those of DeepSeek
   * (`x.weight_scale_inv`), compressed-tensors (`x.weight_scale`) and Transformers. The result is cast to the option
   * `dtype`, BF16 if that is missing. An object gives the rows and columns of a block. Default false: the tensors are as
   * in the file.
   */
  dequantize?: boolean | DequantizeOptions;
  /** Lanes that read at once, 1 to 16. Default: depends on the machine and on the files in the page cache. */
  maxThreads?: number;
  /** Bytes of one read: a multiple of 4096 up to 64 MiB. Default 4 MiB. */
  blockBytes?: number;
  /**
   * Bytes of staging memory of all lanes together, for bytes that are not read directly to their place. Where storage
   * answers late, direct reads have at most 16 times as much in flight. Default 64 MiB.
   */
  stagingBytes?: number;
  /**
   * `GPUBufferUsage` flags that the buffers of tensors in WebGPU have besides STORAGE, COPY_SRC and COPY_DST, such as
   * VERTEX or INDIRECT. Default 0.
   */
  gpuBufferUsage?: number;
  /**
   * The ranks that load together. Rank `i % size` opens and reads file `i`. All ranks must request the same tensors in
   * the same order. Default: this process alone.
   */
  group?: ProcessGroup;
  /**
   * Loads this rank's part of every tensor. The plan maps name patterns to the dimension along which matching tensors are
   * cut into one part for each rank of `group`. Every rank reads its parts itself, so all ranks need access to the files;
   * only the rank and the size of the group are used. Default: whole tensors.
   */
  shardPlan?: ShardPlan;
  /** Ends the load; promises of tensors that have not landed reject with the signal's reason. */
  signal?: AbortSignal;
  /** Called about 20 times a second while the load runs, and once at its end. */
  onProgress?: (progress: Progress) => void;
  /** Writes the decisions of the load, line by line: to stderr, or to this function. Default false. */
  debugLog?: boolean | ((line: string) => void);
}

/** The keys of {@linkcode ModelOptions}. */
export const MODEL_KEYS = keysOf<ModelOptions>({
  device: true,
  dtype: true,
  names: true,
  lazy: true,
  restoreAliases: true,
  dequantize: true,
  maxThreads: true,
  blockBytes: true,
  stagingBytes: true,
  gpuBufferUsage: true,
  group: true,
  shardPlan: true,
  signal: true,
  onProgress: true,
  debugLog: true,
});

/** Checked {@linkcode ModelOptions} with defaults. */
export interface CheckedOptions extends LoadOptions {
  readonly device: DeviceOption;
  readonly names: NameSelection | undefined;
  readonly lazy: boolean;
  readonly restoreAliases: boolean;
  /** Null if tensors stay as in the file. */
  readonly dequantize: DequantizeOptions | null;
  readonly gpuBufferUsage: number;
}

const MAX_THREADS = 16;
const MAX_BLOCK = 64 * 2 ** 20;

/** Rank and size for a process without a group. */
const ALONE = { rank: 0, size: 1 } as const;

/**
 * Checks the values of the options and adds defaults; the entry points check the keys.
 *
 * @throws {TypeError} if a value has the wrong type, or no cast to the dtype exists
 * @throws {RangeError} if a number is outside its limits
 */
export function checkModelOptions(options: ModelOptions): CheckedOptions {
  castTarget("F32", options.dtype);
  const blockBytes = checkInteger("blockBytes", options.blockBytes, {
    byDefault: 4 * 2 ** 20,
    least: PAGE,
    most: MAX_BLOCK,
  });
  if (blockBytes % PAGE !== 0) {
    throw new RangeError(`blockBytes must be a multiple of ${PAGE}, got ${blockBytes}`);
  }
  for (const name of ["lazy", "restoreAliases"] as const) checkBoolean(name, options[name]);
  checkSignal("signal", options.signal);
  checkFunction("onProgress", options.onProgress);
  return {
    device: checkDevice(options.device),
    dtype: options.dtype,
    names: options.names === undefined ? undefined : checkNames("names", options.names),
    lazy: options.lazy ?? false,
    restoreAliases: options.restoreAliases ?? false,
    dequantize: dequantizeOption(options.dequantize),
    maxThreads: options.maxThreads === undefined
      ? undefined
      : checkInteger("maxThreads", options.maxThreads, { byDefault: 1, least: 1, most: MAX_THREADS }),
    blockBytes,
    stagingBytes: checkInteger("stagingBytes", options.stagingBytes, {
      byDefault: 64 * 2 ** 20,
      least: 64 * 2 ** 10,
      most: 4 * 2 ** 30,
    }),
    gpuBufferUsage: bufferUsage(options.gpuBufferUsage),
    group: checkGroup("group", options.group) ?? ALONE,
    shardPlan: options.shardPlan === undefined ? undefined : new ShardRules(options.shardPlan),
    signal: options.signal,
    onProgress: options.onProgress,
    log: logger(options.debugLog),
    startedAt: performance.now(),
  };
}

function dequantizeOption(value: unknown): DequantizeOptions | null {
  if (value === undefined || value === false) return null;
  if (value === true) return {};
  if (typeof value !== "object") {
    throw new TypeError(
      `dequantize must be true, false or { block: [rows, columns] }, got ${describeValue(value)}`,
    );
  }
  checkKeys("dequantize", value, keysOf<DequantizeOptions>({ block: true }));
  const { block } = value as DequantizeOptions;
  return block === undefined ? {} : { block: checkBlock(block) };
}

/**
 * @returns the group; undefined if the value is missing
 * @throws {TypeError} if the value is not a process group
 */
export function checkGroup(name: string, value: unknown): ProcessGroup | undefined {
  if (value === undefined) return undefined;
  const { rank, size } = (value ?? {}) as Partial<ProcessGroup>;
  if (Number.isInteger(rank) && Number.isInteger(size)) return value as ProcessGroup;
  throw new TypeError(`${name} must be a process group such as an MpiGroup, got ${describeValue(value)}`);
}

/** Allows flags from COPY_SRC on: WebGPU allows a mappable buffer almost no other usage. */
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
