/**
 * The devices that the option `device` can name, and the tensors that each has.
 */
import { describeValue } from "../base/check.ts";
import type { HostTensor } from "./cpu/tensor.ts";
import { type CudaName, isCudaName } from "./cuda_name.ts";
import type { CudaTensor } from "./cuda_tensor.ts";
import type { WebGpuTensor } from "./webgpu/tensor.ts";

/** The values of the option `device`. */
export type DeviceOption = "cpu" | CudaName | "webgpu" | GPUDevice;

/** The tensor handles of a device. */
export type TensorOn<D extends DeviceOption> = D extends "cpu" ? HostTensor
  : D extends CudaName ? CudaTensor
  : WebGpuTensor;

/**
 * Checks the value of the option `device`, without a search for the device.
 *
 * @throws {TypeError} if the value is not the name of a device
 */
export function checkDevice(device: unknown): DeviceOption {
  if (device === undefined || device === "cpu") return "cpu";
  if (isCudaName(device) || device === "webgpu") return device;
  if (typeof GPUDevice !== "undefined" && device instanceof GPUDevice) return device;
  throw new TypeError(
    `Cannot load to device ${
      describeValue(device)
    }: known are "cpu", "cuda", "cuda:0", "cuda:1", …, "webgpu" and any GPUDevice`,
  );
}
