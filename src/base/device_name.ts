/**
 * The names of devices: the values of the option `device`.
 */
import { describeValue } from "./text.ts";

/** A CUDA device: "cuda" is the first, "cuda:1" the second. */
export type CudaName = "cuda" | `cuda:${number}`;

/** The values of the option `device`. */
export type DeviceOption = "cpu" | CudaName | "webgpu" | GPUDevice;

/** Whether a name is that of a CUDA device; this machine does not have to have it. */
export function isCudaName(name: unknown): name is CudaName {
  return typeof name === "string" && /^cuda(:\d{1,3})?$/.test(name);
}

/** Whether a value names a device, or is a GPUDevice; this machine does not have to have it. */
export function isDevice(value: unknown): value is DeviceOption {
  if (value === "cpu" || value === "webgpu" || isCudaName(value)) return true;
  return typeof GPUDevice !== "undefined" && value instanceof GPUDevice;
}

/**
 * Returns the index of a CUDA device.
 *
 * @throws {TypeError} if the name is not that of a CUDA device
 */
export function cudaIndex(name: CudaName): number {
  if (!isCudaName(name)) {
    throw new TypeError(`Cannot use device ${describeValue(name)}: it is not a CUDA device`);
  }
  return name === "cuda" ? 0 : Number(name.slice("cuda:".length));
}

/**
 * Checks the value of the option `device`, without a search for the device.
 *
 * @throws {TypeError} if the value is not the name of a device
 */
export function checkDevice(device: unknown): DeviceOption {
  if (device === undefined) return "cpu";
  if (isDevice(device)) return device;
  throw new TypeError(
    `Cannot load to device ${
      describeValue(device)
    }: known are "cpu", "cuda", "cuda:0", "cuda:1", …, "webgpu" and any GPUDevice`,
  );
}
