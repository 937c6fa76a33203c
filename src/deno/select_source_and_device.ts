/**
 * Selects the engine, the source and the device of a load in Deno.
 */
import { quote } from "../base/text.ts";
import type { DeviceOption } from "../base/device_name.ts";
import type { TensorOn } from "../device/tensors.ts";
import type { Source } from "../files/source.ts";
import type { Engine } from "../load/engine.ts";
import { portableEngine, selectEngine } from "../load/native/select.ts";
import type { Tensor } from "../load/tensor.ts";
import type { ModelDevices } from "../model/model.ts";
import type { CheckedOpenOptions } from "./options.ts";
import { selectDevice } from "./select_device.ts";
import { selectSource } from "./select_source.ts";

/** The source of a model's files, and its devices. */
export interface SourceAndDevice<T extends Tensor> extends ModelDevices<T> {
  /** The source of the files. */
  readonly source: Source;
}

/**
 * Selects the engine, the source and the device that the options name.
 *
 * @throws {DeviceError} if this machine does not have the device or the source
 */
export async function selectSourceAndDevice<D extends DeviceOption>(
  options: CheckedOpenOptions,
): Promise<SourceAndDevice<TensorOn<D>>> {
  const engine = await findEngine(options);
  const device = await selectDevice(options.device as D, engine, options);
  return {
    device,
    findDevice: (device) => selectDevice(device, engine, options),
    source: await selectSource(engine, options),
    notes: [...engine.notes, ...device.notes ?? []],
  };
}

/** Selects the engine: for a source of the user the portable one, because native lanes read file descriptors only. */
export async function findEngine({ source }: Pick<CheckedOpenOptions, "source">): Promise<Engine> {
  if (typeof source !== "object" || source.isForLanes) return await selectEngine();
  return portableEngine(`the files come from the source ${quote(source.name)}`, source);
}
