/**
 * Bringing tensors from the device of their model to another one.
 */
import { HostTensor } from "../device/cpu/tensor.ts";
import type { Device } from "../load/device.ts";
import { type CudaName, isCudaName } from "../device/cuda_name.ts";
import { checkDevice, type DeviceOption } from "../device/option.ts";
import type { Tensor } from "../load/tensor.ts";
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

/** Finds a device that an option names: whoever opens a model knows how. */
export type FindDevice = (device: DeviceOption) => Promise<Device<Tensor>>;

/** A tensor on its way, and what it is then. */
type Move = (tensor: Tensor) => Promise<Tensor>;

/** Finds devices, each once, and brings tensors there. */
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
   * The way to a device; what it gives is a handle of its own, and the tensor that it is given is used up. From one GPU
   * to another it goes by CUDA itself, else by way of host memory.
   *
   * @throws {TypeError} if `device` names no device
   * @throws {DeviceError} if this machine does not have it
   */
  async to(device: DeviceOption): Promise<Move> {
    // Host memory needs no device, and no engine: every tensor can be copied there.
    const target = checkDevice(device) === "cpu" ? null : await this.#find(device);
    return async (tensor) => {
      if (this.#isOn(tensor, device)) return tensor;
      try {
        if (isOnCuda(tensor) && isCudaName(device)) return await tensor.to({ device });
        const onHost = await toHost(tensor);
        return target ? await target.fromHost(onHost) : onHost;
      } finally {
        // On the CPU there is nothing to be given up.
        tensor[Symbol.dispose]?.();
      }
    };
  }

  /** Whether a tensor is on a GPU that WebGPU drives, and that one is meant. */
  #isOn(tensor: Tensor, device: DeviceOption): boolean {
    if (!("device" in tensor) || typeof tensor.device !== "object") return false;
    return tensor.device === device || device === "webgpu" && this.#own === "webgpu";
  }

  #find(device: DeviceOption): Promise<Device<Tensor>> {
    const known = this.#devices.get(device);
    if (known) return known;
    const found = this.#findDevice(device);
    this.#devices.set(device, found);
    found.catch(() => this.#devices.delete(device)); // another try may find it
    return found;
  }
}

/** A tensor on a CUDA device, which brings itself to another one. */
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
    `Cannot bring tensor ${quote(tensor.name)} to another device: its own is not one of this package`,
  );
}
