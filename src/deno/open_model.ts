/**
 * From what the user named to a model, whatever kind of files it is.
 */
import { checkKeys } from "../base/check.ts";
import type { DeviceOption } from "../device/option.ts";
import type { Files } from "../files/inputs.ts";
import { closeAll } from "../files/source.ts";
import type { Tensor } from "../load/tensor.ts";
import { type SafeTensorsModel, startModel } from "../model/model.ts";
import type { Equipment } from "./equip.ts";
import { type FileKind, openFiles } from "./open_files.ts";
import { type CheckedOpenOptions, checkOptions, OPEN_KEYS, type OpenOptions } from "./options.ts";

/** How a function opens models. */
export interface Opening<T extends Tensor> {
  /** The function as users call it, for messages. */
  readonly call: string;
  /** Finds what the files are loaded with. */
  readonly equip: (options: CheckedOpenOptions) => Promise<Equipment<T>>;
  /** The options that it knows. Default: those of {@linkcode OpenOptions}. */
  readonly keys?: readonly string[];
  /** The configuration file, where `FASTSAFETENSORS_CONFIG` names none; it need not be there. Default: none. */
  readonly configuration?: string;
  /** The kind of the files, asked for once the keys of the options are checked. Default: safetensors files. */
  readonly kind?: () => FileKind;
  /** What relative paths count from. Default: the working folder of now. */
  readonly folder?: string | undefined;
}

/** Opens files and starts to load them to the device that the options name. After an error none is open. */
export async function openModel<T extends Tensor>(
  files: Files,
  options: OpenOptions<DeviceOption>,
  { call, equip, keys = OPEN_KEYS, configuration, kind, folder }: Opening<T>,
): Promise<SafeTensorsModel<T>> {
  checkKeys(call, options, keys);
  const checked = checkOptions(options, configuration);
  const { catalog, equipment } = await openFiles(files, checked, equip, kind?.(), folder);
  try {
    if (!catalog.group) return await startModel(catalog, equipment, checked);
    const { startTogether } = await import("../ranks/start_together.ts");
    return await startTogether(catalog, equipment, checked);
  } catch (error) {
    await closeAll(catalog.files);
    throw error;
  }
}
