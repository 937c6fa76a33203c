/**
 * Getting ready before the first load.
 */
import { checkDevice, type DeviceOption } from "../device/option.ts";

/**
 * Finds the native library, or builds it, and wakes the device that will be loaded to, so that the first load does not
 * have to. Where the library could not be had before, it is tried again.
 *
 * @param device where the tensors will go. Default "cpu"
 * @returns which engine will load: "native", or "portable" where there is no library
 * @throws {TypeError} if it names no device
 * @throws {DeviceError} if this machine does not have the device
 * @throws {Error} if `FASTSAFETENSORS_LIB` names a library that cannot be used
 */
export async function prepare(device?: DeviceOption): Promise<"native" | "portable"> {
  const checked = checkDevice(device);
  const [{ retryLibrary }, { selectEngine }, { selectDevice }] = await Promise.all([
    import("../../ffi/library.ts"),
    import("../load/native/select.ts"),
    import("./select_device.ts"),
  ]);
  retryLibrary();
  const engine = await selectEngine();
  await selectDevice(checked, engine, { gds: "off", pool: undefined, gpuBufferUsage: 0 });
  return engine.name;
}
