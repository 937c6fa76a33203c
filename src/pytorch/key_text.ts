/** The keys of a dict as text: what Python's `str()` makes of them. */
import { PickleGlobal } from "./globals.ts";
import { describe, PickleBytes, PickleFloat, PickleTuple, type PickleValue } from "./pickle_value.ts";

/** Tuples deeper than this, and longer than this together with all that is in them, are not written out. */
const MAX_DEPTH = 4;
const MAX_ITEMS = 64;
/** Longer strings and bytes within a tuple are not written out, nor longer bytes by themselves. */
const MAX_LENGTH = 256;

/** The name that a key gives to its value. */
export function keyText(key: PickleValue): string {
  return typeof key === "string" ? key : repr(key, 0, { items: MAX_ITEMS });
}

function repr(value: PickleValue, depth: number, left: { items: number }): string {
  left.items--;
  switch (typeof value) {
    case "string":
      return value.length > MAX_LENGTH
        ? "…"
        : quoted(Array.from(value, (character) => character.codePointAt(0)!), true);
    case "number":
    case "bigint":
      return String(value);
    case "boolean":
      return value ? "True" : "False";
  }
  if (value === null) return "None";
  if (value instanceof PickleFloat) return floatText(value.value);
  if (value instanceof PickleBytes && value.type === "bytes" && value.bytes.length <= MAX_LENGTH) {
    return `b${quoted([...value.bytes], false)}`;
  }
  if (value instanceof PickleTuple && depth < MAX_DEPTH && value.items.length <= left.items) {
    const items = value.items.map((item) => repr(item, depth + 1, left));
    return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
  }
  return value instanceof PickleGlobal ? value.path : describe(value);
}

/** A literal of Python. */
function quoted(codes: readonly number[], text: boolean): string {
  const mark = codes.includes(0x27) && !codes.includes(0x22) ? '"' : "'";
  const body = codes.map((code) => {
    if (code === 0x5c) return "\\\\";
    if (code === mark.charCodeAt(0)) return `\\${mark}`;
    if (code === 0x0a) return "\\n";
    if (code === 0x0d) return "\\r";
    if (code === 0x09) return "\\t";
    const shown = code >= 0x20 && code < 0x7f || text && code > 0xa0;
    return shown ? String.fromCodePoint(code) : `\\x${code.toString(16).padStart(2, "0")}`;
  });
  return mark + body.join("") + mark;
}

/** The digits are those of JavaScript; Python turns to exponents elsewhere, and marks whole numbers as floats. */
function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  }
  if (!Number.isInteger(value)) return String(value);
  return `${Object.is(value, -0) ? "-0" : value}.0`;
}
