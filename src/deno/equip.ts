/**
 * What files are loaded with in Deno: the engine, the source that files are read from, and devices.
 */
import { quote } from "../base/text.ts";
import type { DeviceOption, TensorOn } from "../device/option.ts";
import type { Source } from "../files/source.ts";
import type { Engine } from "../load/engine.ts";
import { portableEngine, selectEngine } from "../load/native/select.ts";
import type { Tensor } from "../load/tensor.ts";
import type { ModelEquipment } from "../model/model.ts";
import type { CheckedOpenOptions } from "./options.ts";
import { selectDevice } from "./select_device.ts";
import { selectSource } from "./select_source.ts";

/** What files are loaded with. */
export interface Equipment<T extends Tensor> extends ModelEquipment<T> {
  /** Where they are read from. */
  readonly source: Source;
}

/**
 * Finds what the options ask for.
 *
 * @throws {DeviceError} if this machine does not have it
 */
export async function equip<D extends DeviceOption>(
  options: CheckedOpenOptions,
): Promise<Equipment<TensorOn<D>>> {
  const engine = await findEngine(options);
  return {
    device: await selectDevice(options.device as D, engine, options),
    findDevice: (device) => selectDevice(device, engine, options),
    source: await selectSource(engine, options),
    notes: engine.notes,
  };
}

/** What runs loads: for a source of the user's always the portable engine, as lanes can read descriptors only. */
export async function findEngine({ source }: Pick<CheckedOpenOptions, "source">): Promise<Engine> {
  if (typeof source !== "object") return await selectEngine();
  return portableEngine(`the files come from the source ${quote(source.name)}`, source);
}
