/**
 * The function that quantizes tensors. It imports its work at the first call, because few programs need it.
 */
import { handled } from "../base/handled.ts";
import type { QuantizedDType } from "../format/scaled.ts";
import type { Tensor } from "../load/tensor.ts";
import type { QuantizedTensor, QuantizeOptions } from "./cpu/quantize.ts";

/**
 * Quantizes a tensor to floats of 8 bits with scales, as the common formats have it. The largest magnitude of a block
 * becomes the largest value of the dtype: `scale = largest / 448` and `weight = tensor / scale`, computed in 32-bit floats,
 * rounded to nearest even; the scale of a block of zeros is 1. A tensor on a GPU is copied to host memory. Does not block
 * the event loop. The option `dequantize` of {@linkcode fastsafeOpen} is the inverse.
 *
 * @param tensor a floating tensor; of two dimensions or more, unless `scale` is "tensor"
 * @throws {TypeError} if an option is unknown or wrong, or the tensor has too few dimensions
 * @throws {SafeTensorsError} "UnsupportedCast" if the tensor is not a floating one
 * @throws {RangeError} if an element is infinite or NaN
 * @throws {UseAfterCloseError} if the tensor was disposed
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, HostTensor, quantize, saveFile } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * const w = HostTensor.from({ shape: [1, 2], data: new Float32Array([0.5, -1]) });
 * await saveFile({ "layer.weight": w }, path, {
 *   overwrite: true,
 *   async map(name, tensor) {
 *     const { weight, scale } = await quantize(tensor, { scale: { block: [128, 128] } });
 *     return { [name]: weight, [`${name}_scale_inv`]: scale };
 *   },
 * });
 *
 * await using model = await fastsafeOpen(path, { dequantize: true, dtype: "F32" });
 * assertEquals((await model.getTensor("layer.weight")).toFloat32(), new Float32Array([0.5, -1]));
 * ```
 */
export function quantize<Q extends QuantizedDType = "F8_E4M3">(
  tensor: Tensor,
  options: QuantizeOptions<Q> = {},
): Promise<QuantizedTensor<Q>> {
  return handled(start(tensor, options));
}

async function start<Q extends QuantizedDType>(
  tensor: Tensor,
  options: QuantizeOptions<Q>,
): Promise<QuantizedTensor<Q>> {
  const { quantizeTensor } = await import("./cpu/quantize.ts");
  return await quantizeTensor(tensor, options) as QuantizedTensor<QuantizedDType> as QuantizedTensor<Q>;
}
