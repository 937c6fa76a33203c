/**
 * Finds the device that the option `device` names. Imports the modules of CUDA and WebGPU only if it names them.
 */
import { CpuDevice } from "../device/cpu/device.ts";
import type { CudaSettings } from "../device/cuda/run.ts";
import { cudaIndex, isCudaName } from "../base/device_name.ts";
import type { DeviceOption } from "../base/device_name.ts";
import type { TensorOn } from "../device/tensors.ts";
import type { WebGpuSettings } from "../device/webgpu/device.ts";
import type { Device } from "../load/device.ts";
import type { Tensor } from "../load/tensor.ts";
import type { Engine } from "../load/engine.ts";

/** The options of a load that devices use. */
export type DeviceSettings = CudaSettings & WebGpuSettings;

/**
 * Returns the device that a checked option names.
 *
 * @throws {DeviceError} if this machine does not have the device
 */
export async function selectDevice<D extends DeviceOption>(
  device: D,
  engine: Engine,
  settings: DeviceSettings,
): Promise<Device<TensorOn<D>>> {
  return await find(device, engine, settings) as Device<Tensor> as Device<TensorOn<D>>;
}

async function find(device: DeviceOption, engine: Engine, settings: DeviceSettings) {
  if (device === "cpu") return new CpuDevice(engine);
  if (isCudaName(device)) {
    const { CudaDevice } = await import("../device/cuda/device.ts");
    return await CudaDevice.find(cudaIndex(device), settings);
  }
  const { WebGpuDevice } = await import("../device/webgpu/device.ts");
  return await WebGpuDevice.find(device, engine, settings);
}
