/** Functions for text as UTF-8 bytes, as in the format, and for text in messages. */
import { STEP, type Steps } from "./steps.ts";

/** Most characters of a quoted text in a message; a hostile file can have names of many megabytes. */
const MAX_QUOTED = 160;

/**
 * Replaces every character of `text` that controls a terminal or changes the direction of writing by an escape, so that
 * a message shows it.
 */
export function printable(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex
    /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Puts {@linkcode printable} `text` in double quotes for a message. Removes the middle of a very long text, because the
 * end of a path or a name is more useful. Describes a value that is not a string, despite its type.
 */
export function quote(text: string): string {
  if (typeof text !== "string") return describeValue(text);
  if (text.length <= MAX_QUOTED) {
    const whole = escape(text);
    if (whole.length <= MAX_QUOTED) return `"${whole}"`;
  }
  const half = MAX_QUOTED / 2;
  const head = fitting([...text.slice(0, half)], half);
  const tail = fitting([...text.slice(-half)].reverse(), half).reverse();
  return `"${head.join("")}…${tail.join("")}"`;
}

/** Describes a value for an error message: short, and safe to print. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  switch (typeof value) {
    case "string":
      return quote(value);
    case "number":
    case "boolean":
      return String(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return "a function";
    case "symbol":
      return "a symbol";
  }
  if (Array.isArray(value)) return "an array";
  const name: unknown = (value as object).constructor?.name;
  if (typeof name !== "string" || name === "" || name === "Object") return "an object";
  return `${/^[AEIO]/.test(name) ? "an" : "a"} ${name.slice(0, 80)}`;
}

/** Escapes the first characters, up to a length. */
function fitting(characters: readonly string[], length: number): string[] {
  const escaped: string[] = [];
  let left = length;
  for (const character of characters) {
    const next = escape(character);
    if ((left -= next.length) < 0) break;
    escaped.push(next);
  }
  return escaped;
}

/** Escapes quotes and backslashes as JSON does, and all characters that are not printable. */
function escape(text: string): string {
  return printable(JSON.stringify(text).slice(1, -1));
}

/** Compares by code points, the order of UTF-8 bytes; JavaScript's `<` compares UTF-16 units and differs above U+D7FF. */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return codePointRank(x) - codePointRank(y);
  }
  return a.length - b.length;
}

/** Returns the rank of a UTF-16 unit by code points: surrogates (U+10000 and above) come after U+FFFF. */
function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/**
 * Returns the position of the first byte that is not UTF-8, or -1 if all bytes are. Overlong forms, surrogates and code
 * points above U+10FFFF are not UTF-8.
 *
 * A fatal `TextDecoder` does not report the position, and takes eight times as long for text that is mostly ASCII.
 */
export function findInvalidUtf8(bytes: Uint8Array): number {
  const { length, buffer, byteOffset } = bytes;
  const lead = Math.min(length, -byteOffset & 3);
  const words = new Uint32Array(buffer, byteOffset + lead, (length - lead) >> 2);
  let i = 0;
  while (i < length) {
    if (((i - lead) & 3) === 0 && i >= lead) {
      let word = (i - lead) >> 2;
      while (word < words.length && (words[word]! & 0x80808080) === 0) word++;
      i = lead + word * 4;
      if (i >= length) break;
    }
    const size = sequenceLength(bytes, i);
    if (size === 0) return i;
    i += size;
  }
  return -1;
}

/** Returns the length of the UTF-8 sequence at `i`; 0 if it is malformed (table 3-7 of the Unicode Standard). */
function sequenceLength(bytes: Uint8Array, i: number): number {
  const first = bytes[i]!;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (i + size > bytes.length) return 0;
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  const second = bytes[i + 1]!;
  if (second < least || second > most) return 0;
  if (size > 2 && (bytes[i + 2]! & 0xc0) !== 0x80) return 0;
  if (size > 3 && (bytes[i + 3]! & 0xc0) !== 0x80) return 0;
  return size;
}

/** Encodes a list with commas between its items, in parts. */
export function* encodeList(
  start: string,
  items: readonly string[],
  end: string,
): Steps<{ readonly parts: readonly Uint8Array[]; readonly byteLength: number }> {
  const encoder = new TextEncoder();
  const parts = [encoder.encode(start)];
  for (let at = 0; at < items.length; at += STEP) {
    yield;
    parts.push(encoder.encode((at === 0 ? "" : ",") + items.slice(at, at + STEP).join(",")));
  }
  parts.push(encoder.encode(end));
  return { parts, byteLength: parts.reduce((sum, part) => sum + part.length, 0) };
}

/** Copies parts without gaps to `target`, from `offset` on. */
export function* copyParts(parts: readonly Uint8Array[], target: Uint8Array, offset = 0): Steps<void> {
  for (const part of parts) {
    yield;
    target.set(part, offset);
    offset += part.length;
  }
}

/** The message of an error, or the text of another value that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
