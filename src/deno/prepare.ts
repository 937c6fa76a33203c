/**
 * Prepares the native library and the device before the first load.
 */
import { checkDevice, type DeviceOption } from "../base/device_name.ts";

/**
 * Finds or builds the native library and initializes the device, so that the first load starts sooner. Tries again if
 * the library was not available before.
 *
 * @param device the device of later loads. Default "cpu"
 * @returns the engine of later loads: "native", or "portable" if the library is not available
 * @throws {TypeError} if `device` is not the name of a device
 * @throws {DeviceError} if this machine does not have the device
 * @throws {Error} if `FASTSAFETENSORS_LIB` names a library that cannot be used
 */
export async function prepare(device?: DeviceOption): Promise<"native" | "portable"> {
  const checked = checkDevice(device);
  const [{ retryLibrary }, { selectEngine }, { selectDevice }] = await Promise.all([
    import("../../ffi/library.ts"),
    import("../load/native/select.ts"),
    import("./select_device.ts"),
    import("./open_model.ts"), // so that the first load does not wait for its modules
    import("./select_source_and_device.ts"),
  ]);
  retryLibrary();
  const engine = await selectEngine();
  await selectDevice(checked, engine, { gds: "off", pool: undefined, gpuBufferUsage: 0 });
  return engine.name;
}
