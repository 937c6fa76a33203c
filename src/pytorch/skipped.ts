/** What a checkpoint has besides the tensors that are read. */
import { quote } from "../base/text.ts";

/** A value that is left out: it is not a tensor, not in the part that is read, or a tensor that cannot be read. */
export interface SkippedValue {
  /** Its name. */
  readonly name: string;
  /** A few words on what it is. */
  readonly kind: string;
  /** How many tensors are left out with it, where there are any: it is a dict, a list or an object that holds them. */
  readonly tensors?: number;
  /** Whether it is a tensor itself. */
  readonly isTensor?: true;
}

/** How many values of each sort are named. */
const NAMED = 3;

/** What is left out, in one line; empty for nothing. */
export function summarizeSkipped(skipped: readonly SkippedValue[]): string {
  const holders = skipped.filter(({ tensors }) => tensors !== undefined);
  const tensors = skipped.filter(({ isTensor }) => isTensor);
  const others = skipped.filter(({ isTensor, tensors }) => !isTensor && tensors === undefined);
  const parts = [
    ...listed(
      holders,
      ({ name, tensors = 0 }) => `${tensors} ${tensors === 1 ? "tensor" : "tensors"} in ${quote(name)}`,
    ),
    ...listed(tensors, ({ name, kind }) => `tensor ${quote(name)} (${kind})`),
  ];
  if (others.length > 0) {
    const [{ name, kind }] = others as [SkippedValue];
    const count = others.length === 1
      ? "1 value that is not a tensor"
      : `${others.length} values that are not tensors`;
    parts.push(`${count}, such as ${quote(name)} (${kind})`);
  }
  return parts.join(", ");
}

function listed(values: readonly SkippedValue[], text: (value: SkippedValue) => string): string[] {
  const more = values.length - NAMED;
  return [...values.slice(0, NAMED).map(text), ...more > 0 ? [`${more} more like these`] : []];
}
