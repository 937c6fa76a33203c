/**
 * Casts on the GPU.
 */
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { GROUP, partShader, wordShader } from "./cast_shader.ts";
import { type Dispatch, WORKGROUP } from "./dispatch.ts";
import { floorTo, type Gpu } from "./gpu.ts";

/** Elements to cast, and their target. */
export interface CastRange {
  /** Element type of the source. */
  readonly from: DType;
  /** Element type of the target. */
  readonly to: DType;
  /** Number of elements. */
  readonly count: number;
  /** The source buffer; not the target buffer. */
  readonly source: GPUBuffer;
  /** Byte offset of the first element in the source: a multiple of the device's alignment. */
  readonly sourceOffset: number;
  /** The target buffer. */
  readonly target: GPUBuffer;
  /** Byte offset of the first element in the target: a multiple of the element size. */
  readonly targetOffset: number;
}

/**
 * Yields the dispatches that cast a range, each within the limits of the device.
 *
 * @param bytes approximate number of bytes that one dispatch writes
 */
export function* castDispatches(gpu: Gpu, range: CastRange, bytes = Infinity): Generator<Dispatch> {
  const { from, to, count, source, target } = range;
  const { alignment, maxBindingBytes, maxWorkgroups } = gpu;
  const [fromBits, toBits] = [dtypeBits(from), dtypeBits(to)];
  const isWhole = range.targetOffset % 4 === 0; // and then so is every step
  const pipeline = isWhole
    ? gpu.pipeline(`cast ${from} to ${to}`, () => wordShader(from, to))
    : gpu.pipeline(`cast ${from} to parts of ${to}`, () => partShader(from, to));
  const most = Math.min(
    maxBindingBytes * 8 / fromBits,
    (maxBindingBytes - alignment) * 8 / toBits,
    maxWorkgroups * WORKGROUP * (isWhole ? GROUP : 32 / toBits) - alignment,
    bytes * 8 / toBits,
  );
  const step = floorTo(most, alignment * 8); // so that each begins at a multiple of the alignment in the source
  for (let start = 0; start < count; start += step) {
    const elements = Math.min(step, count - start);
    const at = range.targetOffset + start * toBits / 8;
    const offset = floorTo(at, alignment);
    const words = Math.ceil((at - offset + elements * toBits / 8) / 4);
    yield {
      pipeline,
      source: {
        buffer: source,
        offset: range.sourceOffset + start * fromBits / 8,
        size: Math.ceil(elements * fromBits / 32) * 4,
      },
      target: { buffer: target, offset, size: words * 4 },
      parameters: [isWhole ? (at - offset) / 4 : at - offset, elements],
      invocations: isWhole ? Math.ceil(elements / GROUP) : words,
    };
  }
}
