/**
 * The configuration file. It has the format of fastsafetensors' AutoLoader, so that both can share one file.
 *
 * `FASTSAFETENSORS_CONFIG` names the file, for all functions that open files. Without that variable only
 * {@linkcode autoOpen} reads a file of the working folder. A program without permission for the variable or the file
 * has no configuration. All keys are optional:
 *
 * - `loader`: "base" reads every file by ordinary reads, "3fs" every file through 3FS; default: depends on the mount
 * - `base` (unless the loader is "3fs"): `copier_type`: "gds" is `gds: "auto"`, "nogds" and "unified" are `gds: "off"`,
 *   "fgds" and "dstorage" are not available here: they are "auto" and "off", with a warning; `bbuf_size_kb`:
 *   `stagingBytes` in KiB; `max_threads`: `maxThreads`, of which at most 16 are used
 * - `3fs` (unless the loader is "base"): `mount_point`, `entries`, `io_depth`, `buffer_size` in bytes, `numa`,
 *   `timeout` in seconds: the options `usrbio`
 * - `debug`: `debug_log`: `debugLog`
 *
 * The values of these keys are checked but not used: `framework`; `set_numa` and `disable_cache` in `debug`;
 * `use_pipeline`, `max_concurrent_producers`, `queue_size` and `use_tqdm_on_load` in `parallel`; also `max_batch_bytes`,
 * `device_memory_budget` and `use_chunk_budget_as_allocation_size` in `parallel`, with a warning if they limit memory.
 */
import { isRecord } from "../base/check.ts";
import { environmentVariable, mayRead } from "../../ffi/variables.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { messageOf, quote } from "../base/text.ts";
import type { GdsOption } from "../device/cuda/run.ts";
import type { UsrbioOptions } from "../three_fs/options.ts";

/** The options of {@linkcode OpenOptions} that a configuration can set. */
export interface Configuration {
  source?: "3fs" | "file";
  gds?: GdsOption;
  stagingBytes?: number;
  maxThreads?: number;
  debugLog?: boolean;
  usrbio?: UsrbioOptions;
}

/** The values that a key may have. */
interface Kind {
  /** The allowed values in words, for messages. */
  readonly allowed: string;
  readonly fits: (value: unknown) => boolean;
  /** Describes the actual behaviour for an allowed value that this package does not support. */
  readonly instead?: (value: unknown) => string | undefined;
}

const BOOLEAN: Kind = { allowed: "true or false", fits: (value) => typeof value === "boolean" };
const PATH: Kind = {
  allowed: 'an absolute path, or "" to search for it',
  fits: (value) => typeof value === "string" && (value === "" || value.startsWith("/")),
};
const oneOf = (...values: readonly (string | number)[]): Kind => ({
  allowed: values.map((value) => JSON.stringify(value)).join(" or "),
  fits: (value) => values.includes(value as string),
});
const whole = (least: number, most: number): Kind => ({
  allowed: `a whole number from ${least} to ${most}`,
  fits: (value) => Number.isInteger(value) && least <= (value as number) && (value as number) <= most,
});
const seconds = (most: number): Kind => ({
  allowed: `a number from 0 to ${most}`,
  fits: (value) => typeof value === "number" && 0 <= value && value <= most,
});

/** A limit of memory that only fastsafetensors supports; null means no limit. */
const BUDGET: Kind = {
  allowed: "null or a whole number from 1 on",
  fits: (value) => value === null || Number.isSafeInteger(value) && value as number > 0,
  instead: (value) =>
    value === null ? undefined : "the option maxBytesInFlight of ParallelLoader bounds memory",
};

/** `copier_type` → the option `gds`. */
const COPIERS = { gds: "auto", fgds: "auto", nogds: "off", unified: "off", dstorage: "off" } as const;
const COPIER: Kind = {
  ...oneOf(...Object.keys(COPIERS)),
  instead: (value) =>
    value === "fgds" || value === "dstorage" ? `the option gds is ${quote(COPIERS[value])}` : undefined,
};

const PARALLEL = {
  use_pipeline: BOOLEAN,
  max_concurrent_producers: oneOf(1),
  queue_size: whole(-1, 2 ** 31 - 1),
  use_tqdm_on_load: BOOLEAN,
  max_batch_bytes: BUDGET,
  device_memory_budget: BUDGET,
  use_chunk_budget_as_allocation_size: BOOLEAN,
};
const DEBUG = { debug_log: BOOLEAN, set_numa: BOOLEAN, disable_cache: BOOLEAN };
const FRAMEWORK = { framework: oneOf("pytorch", "paddle") };

/** Section → key → kind. The keys of "parallel" and "debug" may stand outside their section as well. */
const SECTIONS: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  "": { loader: oneOf("base", "3fs"), ...FRAMEWORK, ...PARALLEL, ...DEBUG },
  base: {
    copier_type: COPIER,
    bbuf_size_kb: whole(64, 4 * 2 ** 20),
    max_threads: whole(1, 1024),
    ...FRAMEWORK,
    ...DEBUG,
  },
  "3fs": {
    mount_point: PATH,
    entries: whole(1, 4096),
    io_depth: whole(-4096, 0),
    buffer_size: whole(2 ** 20, 16 * 2 ** 30),
    numa: whole(-1, 1023),
    timeout: seconds(86_400),
    ...FRAMEWORK,
    ...DEBUG,
  },
  parallel: PARALLEL,
  debug: DEBUG,
};

/** Warnings that were written before: each one is written once. */
const warned = new Set<string>();

/**
 * Returns the options that the configuration file sets; an empty object without a file. Writes a warning to stderr, once,
 * for each unknown key and for each value that is not supported here.
 *
 * @param byDefault the file to read if `FASTSAFETENSORS_CONFIG` is not set; it does not have to exist
 * @throws {SafeTensorsError} "InvalidConfig" if the file that `FASTSAFETENSORS_CONFIG` names does not exist, a file is
 *   not JSON, or a value is not allowed
 */
export function readConfiguration(byDefault?: string): Configuration {
  const named = environmentVariable("FASTSAFETENSORS_CONFIG");
  const path = named ?? byDefault;
  if (path === undefined || !mayRead(path)) return {};
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (named === undefined && error instanceof Deno.errors.NotFound) return {};
    const reason = messageOf(error);
    const origin = named === undefined ? "" : ", which FASTSAFETENSORS_CONFIG names";
    throw invalid(`Cannot read the configuration ${quote(path)}${origin}: ${reason}`, path, error);
  }
  const { configuration, warnings } = parseConfiguration(text, path);
  for (const each of warnings) {
    const warning = `fastsafetensors: the configuration ${quote(path)} ${each}`;
    if (!warned.has(warning)) console.warn(warning);
    warned.add(warning);
  }
  return configuration;
}

/**
 * Returns the options that a configuration sets, and warnings: sentences whose subject is the configuration.
 *
 * @throws {SafeTensorsError} "InvalidConfig"
 */
export function parseConfiguration(
  text: string,
  path: string,
): { configuration: Configuration; warnings: string[] } {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalid(`Cannot read the configuration ${quote(path)}: ${(error as Error).message}`, path, error);
  }
  if (!isRecord(json)) {
    throw invalid(`Cannot read the configuration ${quote(path)}: it is not a JSON object`, path);
  }
  const warnings: string[] = [];
  const isUnused = (section: string) => section === "base" && json.loader === "3fs";
  const check = (section: string, values: Record<string, unknown>) => {
    for (const [key, value] of Object.entries(values)) {
      const name = section === "" ? key : `${section}.${key}`;
      if (section === "" && key !== "" && Object.hasOwn(SECTIONS, key)) {
        if (isRecord(value)) check(key, value);
        else throw wrong(path, name, "an object", value);
        continue;
      }
      const kinds = SECTIONS[section]!;
      if (!Object.hasOwn(kinds, key)) {
        warnings.push(`has an unknown key: ${name}`);
        continue;
      }
      const { fits, allowed, instead } = kinds[key]!;
      if (!fits(value)) throw wrong(path, name, allowed, value);
      const answer = isUnused(section) ? undefined : instead?.(value);
      if (answer) {
        warnings.push(`sets ${name} to ${JSON.stringify(value)}, which is not supported here: ${answer}`);
      }
    }
  };
  check("", json);
  return { configuration: optionsOf(json), warnings };
}

/** Converts the settings of a checked file to options. */
function optionsOf(json: Record<string, unknown>): Configuration {
  const section = (name: string) => (json[name] ?? {}) as Record<string, never>;
  const { loader } = json;
  const base = loader === "3fs" ? {} : section("base");
  const usrbio = loader === "base" ? {} : section("3fs");
  const { debug_log } = { ...json, ...section("debug") } as { debug_log?: boolean };
  const { copier_type, bbuf_size_kb, max_threads } = base as {
    copier_type?: keyof typeof COPIERS;
    bbuf_size_kb?: number;
    max_threads?: number;
  };
  return defined<Configuration>({
    source: loader === undefined ? undefined : loader === "3fs" ? "3fs" : "file",
    gds: copier_type === undefined ? undefined : COPIERS[copier_type],
    stagingBytes: bbuf_size_kb === undefined ? undefined : bbuf_size_kb * 1024,
    maxThreads: max_threads === undefined ? undefined : Math.min(16, max_threads),
    debugLog: debug_log,
    usrbio: defined<UsrbioOptions>({
      mountPoint: usrbio["mount_point"] || undefined,
      entries: usrbio["entries"],
      ioDepth: usrbio["io_depth"],
      bufferBytes: usrbio["buffer_size"],
      numa: usrbio["numa"],
      timeoutSeconds: usrbio["timeout"],
    }),
  });
}

/** Returns the object without the keys whose value is undefined. */
export function defined<T extends object>(values: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T;
}

function wrong(path: string, name: string, allowed: string, value: unknown): SafeTensorsError {
  const given = JSON.stringify(value);
  return invalid(
    `Cannot use the configuration ${quote(path)}: ${name} must be ${allowed}, got ${given}`,
    path,
  );
}

function invalid(message: string, path: string, cause?: unknown): SafeTensorsError {
  return new SafeTensorsError("InvalidConfig", message, cause === undefined ? { path } : { path, cause });
}
