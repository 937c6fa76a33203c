/**
 * The devices that the option `device` can name: the only place that lists them.
 */
import type { Engine } from "../lanes/engine.ts";
import type { HostTensor } from "../tensor/host_tensor.ts";
import { CpuDevice } from "./cpu.ts";
import type { Device } from "./device.ts";

/** What the option `device` takes. */
export type DeviceOption = "cpu";

/** The tensor handles of a device. */
export type TensorOn<D extends DeviceOption> = D extends "cpu" ? HostTensor : never;

/**
 * Checks what was given as the option `device`; nothing is looked for yet.
 *
 * @throws {TypeError} if it names no device
 */
export function checkDevice(device: unknown): DeviceOption {
  if (device === undefined || device === "cpu") return "cpu";
  const given = typeof device === "string" ? `device "${device}"` : `a device that is ${typeof device}`;
  throw new TypeError(`Cannot load to ${given}: there is "cpu"`);
}

/** The device that a checked option names. */
export function selectDevice<D extends DeviceOption>(
  _device: D,
  engine: Engine,
): Promise<Device<TensorOn<D>>> {
  return Promise.resolve(new CpuDevice(engine) as Device<HostTensor> as Device<TensorOn<D>>);
}
