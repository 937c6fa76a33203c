/**
 * Bringing tensors from the device of their model to another one.
 */
import type { Device } from "../load/device.ts";
import { isCudaName } from "../device/cuda/name.ts";
import { checkDevice, type DeviceOption, selectDevice } from "../device/select.ts";
import { quote } from "../base/text.ts";
import { findEngine } from "../deno/open_files.ts";
import type { CheckedOptions } from "./options.ts";
import { CudaTensor } from "../device/cuda/tensor.ts";
import { HostTensor } from "../device/cpu/tensor.ts";
import type { Tensor } from "../load/tensor.ts";
import { WebGpuTensor } from "../device/webgpu/tensor.ts";

/** A tensor on its way, and what it is then. */
type Move = (tensor: Tensor) => Promise<Tensor>;

/** Finds devices, each once, and brings tensors there. */
export class DeviceMoves {
  readonly #options: CheckedOptions;
  readonly #devices = new Map<DeviceOption, Promise<Device<Tensor>>>();

  /** @param context of the model: its device, and its options, which hold for other devices too */
  constructor({ device, options }: { device: Device<Tensor>; options: CheckedOptions }) {
    this.#options = options;
    this.#devices.set(options.device, Promise.resolve(device));
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
      if (tensor instanceof WebGpuTensor && this.#isOn(tensor, device)) return tensor;
      try {
        if (tensor instanceof CudaTensor && isCudaName(device)) return await tensor.to({ device });
        const onHost = await toHost(tensor);
        return target ? await target.fromHost(onHost) : onHost;
      } finally {
        // On the CPU there is nothing to be given up.
        tensor[Symbol.dispose]?.();
      }
    };
  }

  #isOn(tensor: WebGpuTensor, device: DeviceOption): boolean {
    return tensor.device === device || device === "webgpu" && this.#options.device === "webgpu";
  }

  #find(device: DeviceOption): Promise<Device<Tensor>> {
    const known = this.#devices.get(device);
    if (known) return known;
    const found = findEngine(this.#options).then((engine) => selectDevice(device, engine, this.#options));
    this.#devices.set(device, found as Promise<Device<Tensor>>);
    found.catch(() => this.#devices.delete(device)); // another try may find it
    return found as Promise<Device<Tensor>>;
  }
}

function toHost(tensor: Tensor): HostTensor | Promise<HostTensor> {
  if (tensor instanceof HostTensor) return tensor;
  if (tensor instanceof CudaTensor || tensor instanceof WebGpuTensor) return tensor.copyToHost();
  throw new TypeError(
    `Cannot bring tensor ${quote(tensor.name)} to another device: its own is not one of this package`,
  );
}
