/**
 * The options of opening a model in Deno: those that hold in every program, and those of Deno's files and devices.
 */
import { checkBoolean, checkWord, describeValue, keysOf } from "../base/check.ts";
import { quote } from "../base/text.ts";
import { PinnedPool } from "../device/cuda/pinned_pool.ts";
import type { GdsOption } from "../device/cuda/run.ts";
import { isCudaName } from "../device/cuda_name.ts";
import type { DeviceOption } from "../device/option.ts";
import { type CheckedOptions, checkModelOptions, MODEL_KEYS, type ModelOptions } from "../model/options.ts";
import { type CheckedUsrbioOptions, checkUsrbioOptions, type UsrbioOptions } from "../three_fs/options.ts";
import { type Configuration, defined, readConfiguration } from "./config.ts";
import type { SourceOption } from "./select_source.ts";

/** Options of {@linkcode fastsafeOpen}, for the device `D`. */
export interface OpenOptions<D extends DeviceOption = "cpu"> extends ModelOptions<D> {
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
  }),
];

/** {@linkcode OpenOptions} with defaults filled in and everything checked. */
export interface CheckedOpenOptions extends CheckedOptions {
  readonly gds: GdsOption;
  readonly pool: PinnedPool | undefined;
  readonly source: SourceOption | undefined;
  readonly usrbio: CheckedUsrbioOptions;
}

/**
 * Checks the values of options and fills in what the configuration says, and defaults; the entry points check the keys.
 *
 * @param configuration the configuration file, where `FASTSAFETENSORS_CONFIG` names none; it need not be there
 * @throws {TypeError} if a value has the wrong type, or the dtype cannot be cast to
 * @throws {RangeError} if a number is outside its limits
 * @throws {SafeTensorsError} "InvalidConfig" if the configuration file is not valid
 */
export function checkOptions(
  given: OpenOptions<DeviceOption>,
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
    source: sourceOption(options, checked.device),
    usrbio: checkUsrbioOptions(options.usrbio),
  };
}

/** Options given in code over those of the configuration. */
export function withConfiguration<D extends DeviceOption>(
  options: OpenOptions<D>,
  configuration: Configuration,
): OpenOptions<D> {
  const base: Configuration = { ...configuration };
  // Each of these says what the other one says too.
  if (options.nogds !== undefined) delete base.gds;
  if (options.gds === "require") delete base.source;
  const usrbio = { ...base.usrbio, ...defined(options.usrbio ?? {}) };
  return { ...base, ...defined(options), usrbio };
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
