/**
 * Tensors of 8-bit floats with a scale: each block of the weight is multiplied by one element of the scale.
 *
 * The formats name and shape the scale of a weight "x.weight" in these ways; all of them multiply:
 * - DeepSeek V3 and R1 (its fp8_cast_bf16.py) and Transformers (FineGrainedFP8): "x.weight_scale_inv", F32, one element
 *   for each block of [128, 128] or of `weight_block_size`; the blocks at the end may be partial.
 * - compressed-tensors (llm-compressor, vLLM) and Transformers' FBGEMM: "x.weight_scale" of the dtype of the model: [1]
 *   for the whole tensor, [rows, 1] for each row, [rows, columns / group] for groups, or blocks.
 * - Transformers' experts, whose weights are parameters of other names: "x.gate_up_proj_scales_inv".
 * - DeepSeek's own inference code: "x.scale".
 */
import type { DType, FloatDType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

/** The dtypes of weights that can have a scale, and their largest value. */
const LARGEST: Partial<Record<DType, number>> = {
  F8_E4M3: 448,
  F8_E5M2: 57344,
  F8_E4M3FNUZ: 240,
  F8_E5M2FNUZ: 57344,
};

/** A dtype that weights are quantized to. */
export type QuantizedDType = Extract<FloatDType, "F8_E4M3" | "F8_E5M2" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ">;

/** Whether a weight of this dtype can have a scale. */
export function isQuantizedDType(dtype: unknown): dtype is QuantizedDType {
  return typeof dtype === "string" && Object.hasOwn(LARGEST, dtype);
}

/** The edges of a block where a format does not say them. */
const BLOCK = 128;

/** The names that the scale of a weight can have. */
export function scaleNames(weight: string): string[] {
  const names = [`${weight}_scale_inv`, `${weight}_scale`, `${weight}_scales_inv`];
  return weight.endsWith(".weight") ? [...names, weight.replace(/weight$/, "scale")] : names;
}

/** The blocks of a weight. Both lists have one number for each dimension of the weight. */
export interface Blocks {
  /** Elements of the weight. */
  readonly shape: readonly number[];
  /** Elements of a block; those at the end may be partial. */
  readonly block: readonly number[];
  /** Elements of the scale: the number of blocks. */
  readonly scale: readonly number[];
}

/** The blocks of a weight with this size of a block. */
export function blocksOf(shape: readonly number[], block: readonly number[]): Blocks {
  return { shape, block, scale: shape.map((size, index) => Math.ceil(size / block[index]!)) };
}

/**
 * Finds the blocks of a weight from the shapes of it and of its scale.
 *
 * Where a dimension has several blocks, their length is 128 if that fits, else the power of two that fits, else the
 * length that divides the dimension.
 *
 * @param edges the rows and columns of a block, if they are known
 * @throws {TypeError} if the scale does not fit
 */
export function findBlocks(
  name: string,
  shape: readonly number[],
  scaleShape: readonly number[],
  edges?: readonly [rows: number, columns: number],
): Blocks {
  const scale = alignedScale(shape, scaleShape);
  const block = scale?.map((blocks, dimension) => {
    const edge = edges?.[dimension - shape.length + 2];
    return blockLength(shape[dimension]!, blocks, edge);
  });
  if (block && !block.includes(undefined)) return { shape, scale: scale!, block: block as number[] };
  const wanted = edges ? ` with blocks of [${edges}]` : "";
  throw new TypeError(
    `Cannot dequantize tensor ${
      quote(name)
    }: its scale of shape [${scaleShape}] does not fit its shape [${shape}]${wanted}`,
  );
}

/** The shape of a scale with one number for each dimension of its weight. */
function alignedScale(shape: readonly number[], scale: readonly number[]): readonly number[] | undefined {
  if (scale.length === shape.length) return scale;
  if (scale.every((size) => size === 1)) return shape.map(() => 1);
  // One number for each row, or for each expert.
  if (scale.length === 1 && scale[0] === shape[0]) return shape.map((size, index) => index === 0 ? size : 1);
  return undefined;
}

/** The elements of a block, of which `blocks` cover `size`. */
function blockLength(size: number, blocks: number, edge: number | undefined): number | undefined {
  const fits = (length: number) => length > 0 && Math.ceil(size / length) === blocks;
  if (blocks === 1) return Math.max(size, 1);
  if (blocks === size) return 1;
  if (edge !== undefined) return fits(edge) ? edge : undefined;
  const powers = Array.from({ length: 31 }, (_, exponent) => 2 ** exponent);
  return [BLOCK, ...powers, size / blocks].find((length) => Number.isInteger(length) && fits(length));
}

/**
 * Visits a stretch of elements of one row.
 *
 * @param begin its first element, counted from the first one of the call
 * @param end one after its last element
 * @param index the element of the scale for its first element
 * @param step 0 if all of its elements have this scale; 1 if each has the next one
 */
type Visit = (begin: number, end: number, index: number, step: 0 | 1) => void;

/** Visits `count` elements of a weight from the element `first` on, in row-major order. */
function visitStretches({ shape, block, scale }: Blocks, first: number, count: number, visit: Visit): void {
  const last = shape.length - 1;
  const columns = shape[last] ?? 1;
  const width = block[last] ?? 1;
  for (let at = 0; at < count;) {
    let row = Math.floor((first + at) / columns);
    const column = (first + at) % columns;
    let base = 0, step = scale[last] ?? 1;
    for (let dimension = last - 1; dimension >= 0; dimension--) {
      const position = row % shape[dimension]!;
      base += Math.floor(position / block[dimension]!) * step;
      step *= scale[dimension]!;
      row = Math.floor(row / shape[dimension]!);
    }
    const rowEnd = Math.min(count, at + columns - column);
    if (width === 1) {
      visit(at, rowEnd, base + column, 1);
    } else {
      for (let begin = at; begin < rowEnd;) {
        const place = column + begin - at;
        const index = Math.floor(place / width);
        const end = Math.min(rowEnd, begin + (index + 1) * width - place);
        visit(begin, end, base + index, 0);
        begin = end;
      }
    }
    at = rowEnd;
  }
}

/**
 * Multiplies elements of a weight by their scale, as a multiplication of 32-bit floats.
 *
 * @param values elements of the weight in row-major order, from the element `first` on; they are replaced
 */
export function multiplyByScale(
  values: Float32Array,
  first: number,
  scale: Float32Array,
  blocks: Blocks,
): void {
  visitStretches(blocks, first, values.length, (begin, end, start, step) => {
    // The product is rounded once, when it is stored.
    for (let at = begin, index = start; at < end; at++, index += step) {
      values[at] = values[at]! * scale[index]!;
    }
  });
}

/**
 * Raises the elements of `largest` to the magnitudes of the elements of their blocks.
 *
 * @returns the index of the first element that is infinite or NaN, counted from `first`; -1 if there is none
 */
export function raiseLargest(
  values: Float32Array,
  first: number,
  largest: Float32Array,
  blocks: Blocks,
): number {
  let bad = -1;
  visitStretches(blocks, first, values.length, (begin, end, start, step) => {
    for (let at = begin, index = start; at < end; at++, index += step) {
      const magnitude = Math.abs(values[at]!);
      if (magnitude > largest[index]!) largest[index] = magnitude;
      if (!(magnitude < Infinity) && bad < 0) bad = at;
    }
  });
  return bad;
}

/**
 * Turns the largest magnitudes of blocks into their scales: the largest value of `dtype` then stands for the largest
 * magnitude. A block of zeros has the scale 1.
 */
export function toScales(largest: Float32Array, dtype: QuantizedDType): void {
  const most = LARGEST[dtype]!;
  for (let index = 0; index < largest.length; index++) {
    largest[index] = largest[index]! / most;
    if (largest[index] === 0) largest[index] = 1;
  }
}

/**
 * Divides elements of a weight by their scale, as a division of 32-bit floats, and limits them to the values of `dtype`.
 *
 * @param values elements of the weight in row-major order, from the element `first` on; they are replaced
 */
export function divideByScale(
  values: Float32Array,
  first: number,
  scale: Float32Array,
  blocks: Blocks,
  dtype: QuantizedDType,
): void {
  const most = LARGEST[dtype]!;
  visitStretches(blocks, first, values.length, (begin, end, start, step) => {
    for (let at = begin, index = start; at < end; at++, index += step) {
      const value = values[at]! / scale[index]!; // rounded once, when it is stored
      values[at] = value > most ? most : value < -most ? -most : value;
    }
  });
}
