/**
 * From files to a model, whatever kind of files they are.
 */
import type { DeviceOption, TensorOn } from "../device/option.ts";
import { SingleGroup } from "../group/process_group.ts";
import { handled } from "../base/handled.ts";
import type { Files } from "../files/inputs.ts";
import { type SafeTensorsModel, startModel } from "../model/model.ts";
import { equip, type Equipment, type FileKind, openFiles } from "./open_files.ts";
import { type CheckedOptions, checkOptions, type OpenOptions } from "../model/options.ts";
import { together } from "../ranks/queue.ts";
import { closeFiles } from "../ranks/shared_catalog.ts";
import type { Tensor } from "../load/tensor.ts";

/** Opens files and starts to load them to the device that the options name. After an error none is open. */
export function openModel<D extends DeviceOption>(
  files: Files,
  options: OpenOptions<D>,
  kind?: FileKind,
): Promise<SafeTensorsModel<TensorOn<D>>> {
  return handled(openWith(files, options, (checked) => equip<D>(checked), kind));
}

/** {@linkcode openModel} with a source and a device that `find` chooses. */
export async function openWith<T extends Tensor>(
  files: Files,
  options: OpenOptions<DeviceOption>,
  find: (options: CheckedOptions) => Promise<Equipment<T>>,
  kind?: FileKind,
): Promise<SafeTensorsModel<T>> {
  const checked = checkOptions(options, new SingleGroup());
  let equipment: Equipment<T>;
  const findSource = async () => (equipment = await find(checked)).source;
  const catalog = await openFiles(files, checked, findSource, kind);
  const start = () => startModel(catalog, equipment, checked);
  const operation = { label: "load", signal: checked.signal };
  try {
    return await together(catalog.group, operation, start, (model) => model.close());
  } catch (error) {
    await closeFiles(catalog);
    throw error;
  }
}
