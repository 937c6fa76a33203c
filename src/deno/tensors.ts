/**
 * Registers the operations of tensors that need the native library or a device. Their modules are imported at the first
 * call.
 */
import { useDLPack } from "../device/dlpack.ts";
import { useDevices } from "../device/moves.ts";

useDLPack(async (tensor, options) => {
  const { exportHost } = await import("../device/cuda/dlpack.ts");
  return await exportHost(tensor, options);
});

useDevices(async (device) => {
  const [{ selectEngine }, { selectDevice }] = await Promise.all([
    import("../load/native/select.ts"),
    import("./select_device.ts"),
  ]);
  return await selectDevice(device, await selectEngine(), { gds: "off", pool: undefined, gpuBufferUsage: 0 });
});
