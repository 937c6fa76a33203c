/**
 * The devices that the option `device` can name: the only place that lists them.
 */
import { describeValue } from "../base/check.ts";
import type { Engine } from "../load/engine.ts";
import type { NativeFile } from "../files/native/native_file.ts";
import type { CudaTensor } from "./cuda/tensor.ts";
import type { HostTensor } from "./cpu/tensor.ts";
import type { Tensor } from "../load/tensor.ts";
import type { WebGpuTensor } from "./webgpu/tensor.ts";
import { CpuDevice } from "./cpu/device.ts";
import { CudaDevice } from "./cuda/device.ts";
import { cudaIndex, type CudaName, isCudaName } from "./cuda/name.ts";
import type { CudaSettings } from "./cuda/run.ts";
import type { Device } from "../load/device.ts";
import { WebGpuDevice, type WebGpuSettings } from "./webgpu/device.ts";

/** What the option `device` takes. */
export type DeviceOption = "cpu" | CudaName | "webgpu" | GPUDevice;

/** The tensor handles of a device. */
export type TensorOn<D extends DeviceOption> = D extends "cpu" ? HostTensor
  : D extends CudaName ? CudaTensor
  : WebGpuTensor;

/**
 * Checks what was given as the option `device`; nothing is looked for yet.
 *
 * @throws {TypeError} if it names no device
 */
export function checkDevice(device: unknown): DeviceOption {
  if (device === undefined || device === "cpu") return "cpu";
  if (isCudaName(device) || device === "webgpu") return device;
  if (typeof GPUDevice !== "undefined" && device instanceof GPUDevice) return device;
  throw new TypeError(
    `Cannot load to device ${
      describeValue(device)
    }: there are "cpu", "cuda", "cuda:0", "cuda:1", …, "webgpu" and any GPUDevice`,
  );
}

/**
 * The device that a checked option names.
 *
 * @throws {DeviceError} if this machine does not have it
 */
export async function selectDevice<D extends DeviceOption>(
  device: D,
  engine: Engine,
  settings: CudaSettings & WebGpuSettings,
): Promise<Device<TensorOn<D>>> {
  return await find(device, engine, settings) as Device<Tensor> as Device<TensorOn<D>>;
}

async function find(
  device: DeviceOption,
  engine: Engine,
  settings: CudaSettings & WebGpuSettings,
): Promise<Device<HostTensor> | Device<CudaTensor, NativeFile> | Device<WebGpuTensor>> {
  if (device === "cpu") return new CpuDevice(engine);
  if (isCudaName(device)) return await CudaDevice.find(cudaIndex(device), settings);
  return await WebGpuDevice.find(device, engine, settings);
}
