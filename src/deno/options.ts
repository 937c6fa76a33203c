/**
 * The options to open a model in Deno: those of every program, and those of Deno's files and devices.
 */
import { checkBoolean, checkWord, describeValue, keysOf } from "../base/check.ts";
import type { FloatDType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { PinnedPool } from "../device/cuda/pinned_pool.ts";
import type { GdsOption } from "../device/cuda/run.ts";
import { isCudaName } from "../base/device_name.ts";
import type { DeviceOption } from "../base/device_name.ts";
import { type CheckedOptions, checkModelOptions, MODEL_KEYS, type ModelOptions } from "../model/options.ts";
import { type CheckedUsrbioOptions, checkUsrbioOptions, type UsrbioOptions } from "../three_fs/options.ts";
import {
  type CacheOption,
  checkCache,
  type CheckedNetworkOptions,
  checkNetwork,
  type NetworkOptions,
} from "../files/network_options.ts";
import { type Configuration, defined, readConfiguration } from "./config.ts";
import type { ChosenSource, SourceOption } from "./select_source.ts";
import type { UrlSource } from "../files/source.ts";

/** Options of {@linkcode fastsafeOpen}, for the device `D` and a cast to `T`. */
export interface OpenOptions<D extends DeviceOption = DeviceOption, T extends FloatDType = FloatDType>
  extends ModelOptions<D, T> {
  /**
   * Whether a load to a GPU uses GPUDirect Storage, which transfers bytes directly from storage to the GPU: "auto" if it
   * is available and the page cache does not have the bytes; "require" always, else an error with the reason; "off"
   * never. `stats().path` names the path that the load used. Default "auto".
   */
  gds?: GdsOption;
  /** `nogds: true` means `gds: "off"`. Default false. */
  nogds?: boolean;
  /** A pool of pinned staging memory that loads to a GPU reuse. Default: each load pins its own memory. */
  pool?: PinnedPool;
  /**
   * The source of the files: "3fs" reads through the rings of 3FS, else throws an error with the reason; "file" uses
   * ordinary reads. Default: the value of `FASTSAFETENSORS_BACKEND` ("usrbio" means "3fs", "posix" and "mock" mean
   * "file"). Without that variable, files on a 3FS mount are read through its rings if the 3FS library and the mount
   * work, and by ordinary reads if they do not; `stats().notes` then has a note.
   *
   * A source object of your own says where the files are (`locate()`), and the package reads them as it reads `https://`
   * names; or it opens and reads the files itself (`open()`). The names in `files` are then its own: names of files, or
   * of an index, but not a folder. Of files that it reads itself the load calls `read()`, with `maxThreads` reads at once
   * (default 4), and loads to the CPU or to WebGPU.
   */
  source?: SourceOption;
  /** Options for files on 3FS. */
  usrbio?: UsrbioOptions;
  /** Options for files on servers: headers, tokens, limits, endpoints. */
  network?: NetworkOptions;
  /**
   * Whether files on servers are kept on disk, and read from there: true, false, or the folder. The bytes go to the
   * tensors and to the cache at once; `close()` waits until whole files have their final names. Default: true for files
   * of the Hub, in the folder that Python's tools use, and false for others.
   */
  cache?: CacheOption;
}

/** The keys of {@linkcode OpenOptions}. */
export const OPEN_KEYS = [
  ...MODEL_KEYS,
  ...keysOf<Omit<OpenOptions, keyof ModelOptions>>({
    gds: true,
    nogds: true,
    pool: true,
    source: true,
    usrbio: true,
    network: true,
    cache: true,
  }),
];

/** Checked {@linkcode OpenOptions} with defaults. */
export interface CheckedOpenOptions extends CheckedOptions {
  readonly gds: GdsOption;
  readonly pool: PinnedPool | undefined;
  readonly source: ChosenSource | undefined;
  /** The source that says where the files are, if the option `source` is one. */
  readonly urls: UrlSource | undefined;
  readonly usrbio: CheckedUsrbioOptions;
  readonly network: CheckedNetworkOptions;
  readonly cache: CacheOption | undefined;
}

/**
 * Checks the values of the options and adds those of the configuration, and defaults; the entry points check the keys.
 *
 * @param configuration the configuration file if `FASTSAFETENSORS_CONFIG` is not set; it does not have to exist
 * @throws {TypeError} if a value has the wrong type, or no cast to the dtype exists
 * @throws {RangeError} if a number is outside its limits
 * @throws {SafeTensorsError} "InvalidConfig" if the configuration file is not valid
 */
export function checkOptions(
  given: OpenOptions,
  configuration?: string,
): CheckedOpenOptions {
  const options = withConfiguration(given, readConfiguration(configuration));
  const checked = checkModelOptions(options);
  if (options.pool !== undefined && !(options.pool instanceof PinnedPool)) {
    throw new TypeError(`pool must be a PinnedPool, got ${describeValue(options.pool)}`);
  }
  checkBoolean("nogds", options.nogds);
  return {
    ...checked,
    gds: gdsOption(options, checked.device),
    pool: options.pool,
    ...sourceOption(options, checked.device),
    usrbio: checkUsrbioOptions(options.usrbio),
    network: checkNetwork(options.network),
    cache: checkCache(options.cache),
  };
}

/** Combines options of the call with those of the configuration; the call takes precedence. */
export function withConfiguration(options: OpenOptions, configuration: Configuration): OpenOptions {
  const base: Configuration = { ...configuration };
  // `nogds` and `gds` set the same option, and `gds: "require"` excludes `source`.
  if (options.nogds !== undefined) delete base.gds;
  if (options.gds === "require") delete base.source;
  const usrbio = { ...base.usrbio, ...defined(options.usrbio ?? {}) };
  return { ...base, ...defined(options), usrbio };
}

function sourceOption(
  { source, gds }: OpenOptions,
  device: DeviceOption,
): Pick<CheckedOpenOptions, "source" | "urls"> {
  if (isUrlSource(source)) return { source: undefined, urls: source };
  if (typeof source === "object" && typeof source?.open === "function") {
    if (!isCudaName(device)) return { source, urls: undefined };
    throw new TypeError(
      `Cannot load to ${
        quote(device)
      } from a source of your own, which is read on the CPU: load to "cpu" or "webgpu"`,
    );
  }
  if (source !== undefined && source !== "3fs" && source !== "file") {
    throw new TypeError(
      `source must be "3fs", "file" or a source of your own, got ${describeValue(source)}`,
    );
  }
  if (gds !== "require") return { source, urls: undefined };
  if (source === "3fs") throw new TypeError('gds: "require" and source: "3fs" cannot be used together');
  return { source: "file", urls: undefined };
}

function isUrlSource(source: unknown): source is UrlSource {
  return typeof source === "object" && source !== null && "locate" in source &&
    typeof source.locate === "function";
}

function gdsOption({ gds, nogds }: OpenOptions, device: DeviceOption): GdsOption {
  checkWord("gds", gds, ["auto", "require", "off"]);
  if (gds === "require" && nogds) {
    throw new TypeError('gds: "require" and nogds: true cannot be used together');
  }
  if (gds === "require" && !isCudaName(device)) {
    throw new TypeError('gds: "require" needs a CUDA GPU: set a device such as "cuda"');
  }
  return nogds ? "off" : gds ?? "auto";
}
