/**
 * Shard plans: they choose the part of each tensor that a rank of a tensor-parallel model holds, by the tensor's name.
 */
import { matchesPattern } from "../base/names.ts";
import { rankSlices, type SliceLayout, sliceLayout, type SliceSource } from "./slices.ts";
import { describeValue, quote } from "../base/text.ts";

/**
 * The division of a tensor among the ranks.
 *
 * - a number: along that dimension, from 0, into blocks of `ceil(n / size)`; the last ranks may get less, or nothing
 * - `{ dimension, parts }`: the same for each of several equal, adjacent parts of that dimension, such as the
 *   queries, keys and values in one matrix
 * - null: every rank has the whole tensor
 */
export type ShardRule = number | null | {
  /** The dimension that is cut, from 0. */
  readonly dimension: number;
  /** The number of parts in it. */
  readonly parts: number;
};

/**
 * Name patterns, with the division of the tensors that match. In a pattern `*` matches any characters, and the pattern
 * must match the whole name. The first pattern that matches counts; tensors without a match are loaded whole.
 */
export type ShardPlan = Readonly<Record<string, ShardRule>>;

/** A checked shard plan. */
export class ShardRules {
  readonly #rules: readonly (readonly [pattern: string, pieces: readonly string[], rule: ShardRule])[];

  /**
   * Checks a plan.
   *
   * @throws {TypeError} if it is not a record of rules
   * @throws {RangeError} if a rule has an invalid number
   */
  constructor(plan: ShardPlan) {
    if (typeof plan !== "object" || plan === null) {
      throw new TypeError(`shardPlan must be a record of pattern and dimension, got ${typeof plan}`);
    }
    this.#rules = Object.entries(plan).map(([pattern, rule]) => {
      checkRule(pattern, rule);
      return [pattern, pattern.split("*"), rule];
    });
  }

  /** The notes on a plan that does not match any of its tensors. */
  notesOn(names: Iterable<string>): string[] {
    if (this.#rules.length === 0) return [];
    for (const name of names) if (this.#find(name)) return [];
    return ["The shard plan does not match any tensor: every rank has all of them whole"];
  }

  /** The division of a tensor; null if it is whole. */
  ruleOf(name: string): ShardRule {
    return this.#find(name)?.[2] ?? null;
  }

  /**
   * The position of a rank's part of a tensor; null if it has the whole tensor.
   *
   * @throws {RangeError} if the tensor does not have the dimension, or cannot be divided into the parts
   * @throws {SafeTensorsError} "MisalignedSlice" if it would cut a byte of a sub-byte dtype
   */
  partOf(tensor: SliceSource, rank: number, size: number): SliceLayout | null {
    const [pattern, , rule] = this.#find(tensor.name) ?? [];
    if (rule === null || rule === undefined || size === 1) return null;
    try {
      return cut(tensor, rule, rank, size);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new RangeError(`Cannot follow pattern ${quote(pattern!)} of the shard plan: ${error.message}`, {
        cause: error,
      });
    }
  }

  #find(name: string) {
    return this.#rules.find(([, pieces]) => matchesPattern(pieces, name));
  }
}

function checkRule(pattern: string, rule: ShardRule): void {
  if (rule === null || isCount(rule)) return;
  if (typeof rule === "object" && isCount(rule.dimension) && isCount(rule.parts) && rule.parts > 0) return;
  const wanted = "a dimension from 0, { dimension, parts } or null";
  const message = `shardPlan must give ${wanted} for ${quote(pattern)}, got ${describeRule(rule)}`;
  throw typeof rule === "number" || typeof rule === "object"
    ? new RangeError(message)
    : new TypeError(message);
}

function describeRule(rule: Exclude<ShardRule, null>): string {
  if (typeof rule !== "object" || Array.isArray(rule)) return describeValue(rule);
  return `{ dimension: ${describeValue(rule.dimension)}, parts: ${describeValue(rule.parts)} }`;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function cut(
  tensor: SliceSource,
  rule: number | Exclude<ShardRule, number | null>,
  rank: number,
  size: number,
) {
  const { dimension, parts } = typeof rule === "number" ? { dimension: rule, parts: 1 } : rule;
  const whole = rankSlices(tensor, dimension, rank, size);
  if (parts === 1) return sliceLayout(tensor, whole);
  const { shape } = tensor;
  const length = shape[dimension]!;
  if (length % parts !== 0) {
    throw new RangeError(
      `Cannot shard tensor ${
        quote(tensor.name)
      } of shape [${shape}]: dimension ${dimension} cannot be divided into ${parts} equal parts`,
    );
  }
  // The parts become a separate dimension.
  const split = { ...tensor, shape: shape.toSpliced(dimension, 1, parts, length / parts) };
  const layout = sliceLayout(split, rankSlices(split, dimension + 1, rank, size));
  const [, block] = layout.shape.slice(dimension);
  return { ...layout, shape: shape.with(dimension, parts * block!) };
}
