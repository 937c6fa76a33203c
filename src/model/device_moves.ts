/**
 * Moves tensors from the device of their model to another device.
 */
import { HostTensor } from "../device/cpu/tensor.ts";
import type { Device } from "../load/device.ts";
import { type CudaName, isCudaName } from "../device/cuda_name.ts";
import { checkDevice, type DeviceOption } from "../device/option.ts";
import type { Tensor } from "../load/tensor.ts";
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

/** Finds the device that an option names. The function that opens the model passes it. */
export type FindDevice = (device: DeviceOption) => Promise<Device<Tensor>>;

/** Moves one tensor to another device and returns the tensor there. */
type Move = (tensor: Tensor) => Promise<Tensor>;

/** Moves tensors to other devices; finds each device once. */
export class DeviceMoves {
  readonly #own: DeviceOption;
  readonly #findDevice: FindDevice;
  readonly #devices = new Map<DeviceOption, Promise<Device<Tensor>>>();

  /** @param own the model's device, and the option that names it */
  constructor(own: { option: DeviceOption; device: Device<Tensor> }, findDevice: FindDevice) {
    this.#own = own.option;
    this.#findDevice = findDevice;
    this.#devices.set(own.option, Promise.resolve(own.device));
  }

  /**
   * Returns the function that moves tensors to a device. It returns a new handle and consumes its argument. CUDA copies
   * from one GPU to another; other moves copy through host memory.
   *
   * @throws {TypeError} if `device` is not the name of a device
   * @throws {DeviceError} if this machine does not have it
   */
  async to(device: DeviceOption): Promise<Move> {
    // A copy to host memory needs neither a device nor an engine.
    const target = checkDevice(device) === "cpu" ? null : await this.#find(device);
    return async (tensor) => {
      if (this.#isOn(tensor, device)) return tensor;
      try {
        if (isOnCuda(tensor) && isCudaName(device)) return await tensor.to({ device });
        const onHost = await toHost(tensor);
        return target ? await target.fromHost(onHost) : onHost;
      } finally {
        // Tensors on the CPU have no handle to release.
        tensor[Symbol.dispose]?.();
      }
    };
  }

  /** Whether a tensor is in WebGPU already, on the GPU that the option names. */
  #isOn(tensor: Tensor, device: DeviceOption): boolean {
    if (!("device" in tensor) || typeof tensor.device !== "object") return false;
    return tensor.device === device || device === "webgpu" && this.#own === "webgpu";
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

/** A tensor on a CUDA device; it has a method that copies it to another device. */
interface CudaMovable extends Tensor {
  readonly device: CudaName;
  to(options: { dtype: DType } | { device: CudaName }): Promise<Tensor>;
}

function isOnCuda(tensor: Tensor): tensor is CudaMovable {
  return "device" in tensor && isCudaName(tensor.device);
}

/** A tensor that can be copied to host memory. */
interface Copyable extends Tensor {
  copyToHost(): Promise<HostTensor>;
}

function isCopyable(tensor: Tensor): tensor is Copyable {
  return "copyToHost" in tensor && typeof tensor.copyToHost === "function";
}

function toHost(tensor: Tensor): HostTensor | Promise<HostTensor> {
  if (tensor instanceof HostTensor) return tensor;
  if (isCopyable(tensor)) return tensor.copyToHost();
  throw new TypeError(
    `Cannot move tensor ${quote(tensor.name)} to another device: its device is not one of this package`,
  );
}
