/**
 * Casting on the GPU.
 */
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { GROUP, partShader, wordShader } from "./cast_shader.ts";
import { type Dispatch, WORKGROUP } from "./dispatch.ts";
import { floorTo, type Gpu } from "./gpu.ts";

/** Elements that are to be cast, and where they are to go. */
export interface CastRange {
  /** Element type of the source. */
  readonly from: DType;
  /** Element type of the target. */
  readonly to: DType;
  /** How many. */
  readonly count: number;
  /** Where they are; not the target. */
  readonly source: GPUBuffer;
  /** The byte of the first: a multiple of the device's alignment. */
  readonly sourceOffset: number;
  /** Where they go. */
  readonly target: GPUBuffer;
  /** The byte of the first there: a multiple of the element size. */
  readonly targetOffset: number;
}

/**
 * The dispatches that cast a range, each within the limits of the device.
 *
 * @param bytes what one dispatch writes, about
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
