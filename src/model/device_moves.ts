/**
 * Moves tensors from the device of their model to another device.
 */
import { checkDevice, type DeviceOption } from "../base/device_name.ts";
import type { FindDevice } from "../device/moves.ts";
import type { Device } from "../load/device.ts";
import type { Tensor } from "../load/tensor.ts";

/** Moves one tensor to another device and returns the tensor there; consumes the handle that it gets. */
type Move = (tensor: Tensor) => Promise<Tensor>;

/** Moves tensors to other devices, which have the settings of the model; finds each device once. */
export class DeviceMoves {
  readonly #findDevice: FindDevice;
  readonly #devices = new Map<DeviceOption, Promise<Device<Tensor>>>();

  /** @param own the model's device, and the option that names it */
  constructor(own: { option: DeviceOption; device: Device<Tensor> }, findDevice: FindDevice) {
    this.#findDevice = findDevice;
    this.#devices.set(own.option, Promise.resolve(own.device));
  }

  /**
   * Returns the function that moves tensors to a device. CUDA copies from one GPU to another; other moves copy through
   * host memory.
   *
   * @throws {TypeError} if `device` is not the name of a device
   * @throws {DeviceError} if this machine does not have it
   */
  async to(device: DeviceOption): Promise<Move> {
    // A copy to host memory needs neither a device nor an engine.
    const target = checkDevice(device) === "cpu" ? null : await this.#find(device);
    return async (tensor) => {
      using source = tensor;
      return await (target ? target.from(source) : source.copyToHost());
    };
  }

  #find(device: DeviceOption): Promise<Device<Tensor>> {
    const known = this.#devices.get(device);
    if (known) return known;
    const found = this.#findDevice(device);
    this.#devices.set(device, found);
    found.catch(() => this.#devices.delete(device)); // a later call tries again
    return found;
  }
}
