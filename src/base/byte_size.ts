/** Sizes in bytes as text. */
import { checkInteger } from "./check.ts";
import { describeValue } from "./text.ts";

/** A number of bytes, or text of a number and a unit: `"500MB"` is 5e8, `"1GiB"` is 2^30. */
export type ByteSize = number | string;

/**
 * Returns the bytes that a text such as `500MB`, `2GiB` or `4096` means; undefined for other texts and for sizes that are
 * not from 1 to 2^53 - 1.
 */
export function parseByteSize(text: string): number | undefined {
  const [, number, prefix, binary] = /^(\d+)(?:([kKMGT])(i?)B)?$/.exec(text) ?? [];
  const power = prefix === undefined ? 0 : "KMGT".indexOf(prefix.toUpperCase()) + 1;
  const bytes = Number(number) * (binary ? 1024 : 1000) ** power;
  return bytes >= 1 && Number.isSafeInteger(bytes) ? bytes : undefined;
}

/**
 * Returns the bytes of an option; undefined if it is missing.
 *
 * @throws {TypeError} if it is neither a number nor a size as text
 * @throws {RangeError} if a number is not whole or below 1
 */
export function checkByteSize(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "number") return checkInteger(name, value, { byDefault: 1, least: 1 });
  const bytes = typeof value === "string" ? parseByteSize(value) : undefined;
  if (bytes !== undefined) return bytes;
  throw new TypeError(
    `${name} must be a number of bytes, or text such as "5GB" or "512MiB", got ${describeValue(value)}`,
  );
}
