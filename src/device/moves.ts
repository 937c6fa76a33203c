/**
 * Copies tensors to other devices. The entry point of the package registers the function that finds devices.
 */
import type { DeviceOption } from "../base/device_name.ts";
import { checkDevice } from "../base/device_name.ts";
import { DeviceError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import type { Device } from "../load/device.ts";
import type { Tensor } from "../load/tensor.ts";

/** Finds the device that an option names. */
export type FindDevice = (device: DeviceOption) => Promise<Device<Tensor>>;

let registered: FindDevice | undefined;

/** Registers the function that finds devices for tensors that are moved without a model. */
export function useDevices(find: FindDevice): void {
  registered = find;
}

/**
 * Returns a tensor on another device: another handle if it is there already, else a copy.
 *
 * @throws {TypeError} if `device` is not the name of a device
 * @throws {DeviceError} if this machine does not have the device, or it fails
 * @throws {OutOfMemoryError} if the device has no memory for it
 */
export async function moveTensor(tensor: Tensor, device: DeviceOption): Promise<Tensor> {
  // A copy to host memory needs no search for a device.
  if (checkDevice(device) === "cpu") return await tensor.copyToHost();
  if (registered) return await (await registered(device)).from(tensor);
  const message = `Cannot copy tensor ${
    quote(tensor.name)
  } to another device: import the package's main module first`;
  throw new DeviceError(message, { library: "fastsafetensors" });
}
