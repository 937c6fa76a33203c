/**
 * Quantizes tensors to floats of 8 bits with scales.
 */
import { checkBlock, checkKeys, describeValue, keysOf } from "../../base/check.ts";
import { tensorBytes } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";
import { Turn } from "../../base/turn.ts";
import {
  type Blocks,
  blocksOf,
  divideByScale,
  isQuantizedDType,
  type QuantizedDType,
  raiseLargest,
  toScales,
} from "../../format/scaled.ts";
import { hostOperations } from "../../load/host_operations.ts";
import type { Tensor } from "../../load/tensor.ts";
import { HostTensor } from "../tensors.ts";

/** Options of `quantize()`. */
export interface QuantizeOptions<Q extends QuantizedDType = QuantizedDType> {
  /** The dtype of the result. Default "F8_E4M3". */
  dtype?: Q;
  /**
   * The elements that share one scale: those of a block of rows and columns, a row, a column, or the whole tensor. Rows
   * and columns are those of the last two dimensions. Default `{ block: [128, 128] }`.
   */
  scale?: "row" | "column" | "tensor" | { readonly block: readonly [rows: number, columns: number] };
}

/** A quantized tensor: `weight` times `scale` is about the original. */
export interface QuantizedTensor<Q extends QuantizedDType = QuantizedDType> {
  /** The elements divided by their scales; it has the name of the original. */
  readonly weight: HostTensor<Q>;
  /**
   * The scales. One for each block: shape [ceil(rows / m), ceil(columns / n)], named `<name>_scale_inv` as in the files of
   * DeepSeek. One for each row: [rows, 1], for each column: [1, columns], for the tensor: [1], named `<name>_scale` as in
   * those of compressed-tensors.
   */
  readonly scale: HostTensor<"F32">;
}

/** Elements of one turn of the event loop. */
const PIECE = 2 ** 18;

const KEYS = keysOf<QuantizeOptions>({ dtype: true, scale: true });

/** Quantizes a tensor as `quantize()` does. */
export async function quantizeTensor(tensor: Tensor, options: QuantizeOptions): Promise<QuantizedTensor> {
  checkKeys("quantize()", options, KEYS);
  const { dtype = "F8_E4M3" } = options;
  const scale = options.scale ?? { block: [128, 128] };
  if (!isQuantizedDType(dtype)) {
    throw new TypeError(
      `dtype must be F8_E4M3, F8_E5M2, F8_E4M3FNUZ or F8_E5M2FNUZ, got ${describeValue(dtype)}`,
    );
  }
  const { name, shape } = tensor;
  const blocks = blocksFor(name, shape, scale);
  const onHost = await tensor.to({ dtype: "F32", device: "cpu" }) as HostTensor;
  const values = onHost.toFloat32();
  const turn = new Turn();
  const scales = new Float32Array(scale === "tensor" ? 1 : blocks.scale.reduce((a, b) => a * b, 1));
  for (let begin = 0; begin < values.length; begin += PIECE) {
    await turn.pause();
    const bad = raiseLargest(values.subarray(begin, begin + PIECE), begin, scales, blocks);
    if (bad >= 0) {
      throw new RangeError(
        `Cannot quantize tensor ${quote(name)}: element ${begin + bad} is ${values[begin + bad]}`,
      );
    }
  }
  toScales(scales, dtype);
  const weight = new Uint8Array(tensorBytes(dtype, shape));
  for (let begin = 0; begin < values.length; begin += PIECE) {
    await turn.pause();
    const piece = values.slice(begin, begin + PIECE);
    divideByScale(piece, begin, scales, blocks, dtype);
    const target = weight.subarray(begin, begin + piece.length);
    await hostOperations().cast(new Uint8Array(piece.buffer), "F32", target, dtype);
  }
  return {
    weight: new HostTensor<QuantizedDType>(name, dtype, shape, weight),
    scale: HostTensor.from({
      name: `${name}${typeof scale === "object" ? "_scale_inv" : "_scale"}`,
      shape: scale === "tensor" ? [1] : blocks.scale,
      data: scales,
    }),
  };
}

/** The blocks of a tensor of this shape. */
function blocksFor(
  name: string,
  shape: readonly number[],
  scale: NonNullable<QuantizeOptions["scale"]>,
): Blocks {
  if (scale === "tensor") return blocksOf(shape, shape.map((size) => Math.max(1, size)));
  let edges: readonly [number, number];
  const [rows = 1, columns = 1] = shape.slice(-2);
  if (scale === "row") edges = [1, Math.max(1, columns)];
  else if (scale === "column") edges = [Math.max(1, rows), 1];
  else if (typeof scale === "object" && scale !== null && "block" in scale) edges = checkBlock(scale.block);
  else {
    throw new TypeError(
      `scale must be "row", "column", "tensor" or { block: [rows, columns] }, got ${describeValue(scale)}`,
    );
  }
  if (shape.length < 2) {
    throw new TypeError(
      `Cannot quantize tensor ${
        quote(name)
      } of shape [${shape}]: rows and columns need two dimensions; use scale: "tensor"`,
    );
  }
  return blocksOf(shape, [...shape.slice(0, -2).map(() => 1), ...edges]);
}
