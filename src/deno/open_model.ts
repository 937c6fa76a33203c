/**
 * Opens files of any kind as a model.
 */
import { checkKeys } from "../base/check.ts";
import type { Files } from "../files/inputs.ts";
import { closeAll } from "../files/source.ts";
import type { Tensor } from "../load/tensor.ts";
import { type SafeTensorsModel, startModel } from "../model/model.ts";
import type { SourceAndDevice } from "./select_source_and_device.ts";
import { type FileKind, openFiles } from "./open_files.ts";
import { type CheckedOpenOptions, checkOptions, OPEN_KEYS, type OpenOptions } from "./options.ts";

/** The differences between the functions that open models. */
export interface Opening<T extends Tensor> {
  /** The name of the function, for messages. */
  readonly call: string;
  /** Selects the source and the device of the files. */
  readonly select: (options: CheckedOpenOptions) => Promise<SourceAndDevice<T>>;
  /** The option keys that it accepts. Default: those of {@linkcode OpenOptions}. */
  readonly keys?: readonly string[];
  /** The configuration file if `FASTSAFETENSORS_CONFIG` is not set; it does not have to exist. Default: none. */
  readonly configuration?: string;
  /** Returns the kind of the files; called after the option keys are checked. Default: safetensors files. */
  readonly kind?: () => FileKind;
  /** The folder of relative paths. Default: the current working folder. */
  readonly folder?: string | undefined;
}

/** Bytes of one request to a server, by default: each waits for its first byte. */
const REMOTE_BLOCK = 8 * 2 ** 20;

/** Opens files and starts to load them to the device that the options name. After an error it closes all files. */
export async function openModel<T extends Tensor>(
  files: Files,
  options: OpenOptions,
  { call, select, keys = OPEN_KEYS, configuration, kind, folder }: Opening<T>,
): Promise<SafeTensorsModel<T>> {
  checkKeys(call, options, keys);
  const checked = checkOptions(options, configuration);
  const { catalog, selected } = await openFiles(files, checked, select, kind?.(), folder);
  const isRemote = selected.source.isForLanes === true && options.blockBytes === undefined;
  const settings = isRemote ? { ...checked, blockBytes: REMOTE_BLOCK } : checked;
  try {
    if (!catalog.group) return await startModel(catalog, selected, settings);
    const { startTogether } = await import("../ranks/start_together.ts");
    return await startTogether(catalog, selected, settings);
  } catch (error) {
    await closeAll(catalog.files);
    throw error;
  }
}
