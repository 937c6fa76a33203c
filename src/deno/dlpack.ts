/**
 * Exports tensors in host memory by DLPack; loads the native library for it at the first call.
 */
import { useDLPack } from "../device/dlpack.ts";

useDLPack(async (tensor, options) => {
  const { exportHost } = await import("../device/cuda/dlpack.ts");
  return await exportHost(tensor, options);
});
