/**
 * Has tensors in host memory given to other libraries by the native library, which is loaded when it is asked for.
 */
import { useDLPack } from "../device/dlpack.ts";

useDLPack(async (tensor, options) => {
  const { exportHost } = await import("../device/cuda/dlpack.ts");
  return await exportHost(tensor, options);
});
