/**
 * Casts of integer tensors in host memory.
 */
import { type IntegerDType, tensorBytes } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";
import { Turn } from "../../base/turn.ts";
import { castIntegers, integerAt, integerRange } from "../../format/integer_cast.ts";
import { cutCast, hostOperations } from "../../load/host_operations.ts";

/** Source bytes of one turn of the event loop: a few milliseconds. */
const TURN = 512 * 1024;

/** A tensor of integers. */
export interface IntegerElements {
  readonly name: string;
  readonly dtype: IntegerDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Casts a tensor to another integer dtype, in turns of the event loop.
 *
 * @param saturate whether a value that `to` cannot hold becomes the nearest one that it can
 * @returns the new elements
 * @throws {RangeError} at the first value that `to` cannot hold, without `saturate`
 */
export async function castIntegerElements(
  { name, dtype, shape, bytes }: IntegerElements,
  to: IntegerDType,
  saturate: boolean,
): Promise<Uint8Array<ArrayBuffer>> {
  const target = hostOperations().allocate(tensorBytes(to, shape));
  const turn = new Turn();
  let done = 0;
  for (const part of cutCast(bytes, dtype, target, to, TURN)) {
    await turn.pause();
    const index = castIntegers(part.source, dtype, part.target, to, saturate);
    if (index >= 0) {
      const value = integerAt(dtype, part.source, index);
      const [least, most] = integerRange(to);
      throw new RangeError(
        `Cannot cast tensor ${quote(name)} from ${dtype} to ${to}: element [${
          positionOf(done + index, shape)
        }] is ${value}, ` +
          `outside of ${least} to ${most}; saturate: true makes it the nearest of these`,
      );
    }
    done += part.count;
  }
  return target;
}

/** The position of an element along each dimension. */
function positionOf(index: number, shape: readonly number[]): number[] {
  let left = index;
  return shape.toReversed().map((size) => {
    const at = left % size;
    left = Math.floor(left / size);
    return at;
  }).reverse();
}
