/**
 * The devices that the option `device` can name: the only place that lists them.
 */
import type { Engine } from "../lanes/engine.ts";
import type { CudaTensor } from "../tensor/cuda_tensor.ts";
import type { HostTensor } from "../tensor/host_tensor.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { CpuDevice } from "./cpu.ts";
import { CudaDevice, type CudaSettings } from "./cuda.ts";
import { cudaIndex, type CudaName, isCudaName } from "./cuda_name.ts";
import type { Device } from "./device.ts";

/** What the option `device` takes. */
export type DeviceOption = "cpu" | CudaName;

/** The tensor handles of a device. */
export type TensorOn<D extends DeviceOption> = D extends "cpu" ? HostTensor
  : D extends CudaName ? CudaTensor
  : never;

/**
 * Checks what was given as the option `device`; nothing is looked for yet.
 *
 * @throws {TypeError} if it names no device
 */
export function checkDevice(device: unknown): DeviceOption {
  if (device === undefined || device === "cpu") return "cpu";
  if (isCudaName(device)) return device;
  const given = typeof device === "string" ? `device "${device}"` : `a device that is ${typeof device}`;
  throw new TypeError(`Cannot load to ${given}: there are "cpu", "cuda" and "cuda:0", "cuda:1", …`);
}

/**
 * The device that a checked option names.
 *
 * @throws {DeviceError} if this machine does not have it
 */
export async function selectDevice<D extends DeviceOption>(
  device: D,
  engine: Engine,
  settings: CudaSettings,
): Promise<Device<TensorOn<D>>> {
  const selected: Device<Tensor> = device === "cpu"
    ? new CpuDevice(engine)
    : await CudaDevice.find(cudaIndex(device), settings);
  return selected as Device<TensorOn<D>>;
}
