/**
 * Checks of arguments that all entry points share. The messages name the value passed and the values allowed.
 */
import { closestWord } from "./closest_word.ts";
import { describeValue, quote } from "./text.ts";

export { describeValue };

/**
 * The keys of the options `T`, for {@linkcode checkKeys}. The compiler rejects a list with a missing or an
 * additional key.
 */
export function keysOf<T extends object>(keys: Readonly<Record<keyof T, true>>): readonly string[] {
  return Object.keys(keys);
}

/**
 * Checks that `options` is a plain object and has only known keys. Otherwise a Map, a Promise or an
 * object of a class would count as options without keys and be ignored.
 *
 * @param call the called function, such as `fastsafeOpen()`
 * @throws {TypeError} that names the unknown key and the nearest known one
 */
export function checkKeys(call: string, options: unknown, known: readonly string[]): void {
  if (!isPlainObject(options)) {
    throw new TypeError(`The options of ${call} must be a plain object, got ${describeValue(options)}`);
  }
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const nearest = closestWord(key, known);
    const hint = nearest ? `: did you mean ${nearest}?` : `; known are ${known.join(", ")}`;
    throw new TypeError(`${call} has no option ${quote(key)}${hint}`);
  }
}

/** Whether a value is a plain object, also one of another realm. */
function isPlainObject(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.hasOwn(prototype, "isPrototypeOf");
}

/** @throws {TypeError} unless the option is one of these words, or missing */
export function checkWord(name: string, value: unknown, words: readonly string[]): void {
  if (value === undefined || (words as readonly unknown[]).includes(value)) return;
  const list = words.map((word) => `${quote(word)}`);
  const wanted = [list.slice(0, -1).join(", "), list.at(-1)].join(" or ");
  throw new TypeError(`${name} must be ${wanted}, got ${describeValue(value)}`);
}

/** @throws {TypeError} unless the option is a boolean or missing */
export function checkBoolean(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "boolean") {
    throw new TypeError(`${name} must be true or false, got ${describeValue(value)}`);
  }
}

/** @throws {TypeError} unless the option is a function or missing */
export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "function") {
    throw new TypeError(`${name} must be a function, got ${describeValue(value)}`);
  }
}

/** @throws {TypeError} unless the option is an AbortSignal or missing */
export function checkSignal(name: string, value: unknown): void {
  if (value !== undefined && !(value instanceof AbortSignal)) {
    throw new TypeError(`${name} must be an AbortSignal, got ${describeValue(value)}`);
  }
}

/**
 * Returns the rows and columns of a block.
 *
 * @throws {TypeError} unless it is a pair of whole numbers from 1 on
 */
export function checkBlock(value: unknown): readonly [rows: number, columns: number] {
  const isPair = Array.isArray(value) && value.length === 2 &&
    value.every((size) => Number.isSafeInteger(size) && size > 0);
  if (isPair) return value as unknown as readonly [number, number];
  const given = Array.isArray(value) ? `[${value}]` : describeValue(value);
  throw new TypeError(`block must be [rows, columns], both whole numbers from 1 on, got ${given}`);
}

/**
 * Returns a whole number within its limits, or the default if the value is missing.
 *
 * @throws {TypeError} if it is not a number
 * @throws {RangeError} if it is not whole or outside its limits
 */
export function checkInteger(
  name: string,
  value: unknown,
  { byDefault, least, most = Number.MAX_SAFE_INTEGER }: { byDefault: number; least: number; most?: number },
): number {
  if (value === undefined) return byDefault;
  if (typeof value !== "number") throw new TypeError(`${name} must be a number, got ${describeValue(value)}`);
  if (!Number.isInteger(value) || value < least || value > most) {
    const limits = most === Number.MAX_SAFE_INTEGER ? `at least ${least}` : `from ${least} to ${most}`;
    throw new RangeError(`${name} must be a whole number ${limits}, got ${value}`);
  }
  return value;
}

/** Whether a value is an object with keys, not a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
