/** The arguments of the opcodes that carry text: numbers and strings as lines, and strings in UTF-8. */
import { PickleBytes, PickleFloat, PickleOther, type PickleValue } from "./pickle_value.ts";

// Fatal, since a name that is not text cannot be kept; a byte order mark is a character like any other.
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LATIN1_CHUNK = 4096;

/** Ints of more digits, or bytes, are only measured: to make a number of digits takes the square of their count. */
const MAX_INT_DIGITS = 640;
const MAX_INT_BYTES = 256;

/** The text of UTF-8 bytes; undefined where they are none. Python also writes lone surrogates, as three bytes each. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return UTF8.decode(bytes);
  } catch {
    return decodeSurrogates(bytes);
  }
}

/** A str of Python 2, which is bytes: text where it is UTF-8. */
export function decodeString(bytes: Uint8Array): PickleValue {
  return decodeText(bytes) ?? new PickleBytes("bytes", bytes);
}

/** UTF-8 as Python's "surrogatepass" has it. */
function decodeSurrogates(bytes: Uint8Array): string | undefined {
  let text = "";
  let from = 0;
  const take = (end: number) => {
    text += UTF8.decode(bytes.subarray(from, end));
  };
  try {
    for (let at = 0; at + 2 < bytes.length; at++) {
      const [a, b, c] = [bytes[at]!, bytes[at + 1]!, bytes[at + 2]!];
      // U+D800 to U+DFFF: 11101101 101xxxxx 10xxxxxx
      if (a !== 0xed || (b & 0xe0) !== 0xa0 || (c & 0xc0) !== 0x80) continue;
      take(at);
      text += String.fromCharCode(0xd000 | (b & 0x3f) << 6 | (c & 0x3f));
      from = at + 3;
      at += 2;
    }
    take(bytes.length);
  } catch {
    return undefined;
  }
  return text;
}

/** A two's complement integer, least significant byte first. */
export function readLong(bytes: Uint8Array): PickleValue {
  if (bytes.length > MAX_INT_BYTES) return new PickleOther(`int of ${bytes.length} bytes`);
  const hex = bytes.slice().reverse().toHex();
  return smallest(BigInt.asIntN(hex.length * 4, BigInt(`0x0${hex}`)));
}

/** A line of INT, which may be a bool, or of LONG; undefined where it is not a number. */
export function parseInteger(line: Uint8Array): PickleValue | undefined {
  const text = latin1(line).trim().replace(/L$/, "");
  if (text === "00") return false;
  if (text === "01") return true;
  if (!/^[+-]?\d+$/.test(text)) return undefined;
  return text.length > MAX_INT_DIGITS
    ? new PickleOther(`int of ${text.length} digits`)
    : smallest(BigInt(text.replace(/^\+/, "")));
}

/** A line of FLOAT; undefined where it is not a number. */
export function parseFloatLine(line: Uint8Array): PickleFloat | undefined {
  const text = latin1(line).trim().toLowerCase();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(text)) return new PickleFloat(Number(text));
  const [, sign, word] = /^([+-]?)(inf|nan)$/.exec(text) ?? [];
  if (word === undefined) return undefined;
  return new PickleFloat(word === "nan" ? NaN : sign === "-" ? -Infinity : Infinity);
}

const ESCAPES: ReadonlyMap<string, number> = new Map([
  ["\\", 92],
  ["'", 39],
  ['"', 34],
  ["a", 7],
  ["b", 8],
  ["f", 12],
  ["n", 10],
  ["r", 13],
  ["t", 9],
  ["v", 11],
]);

/** What a literal consists of: runs of characters, and escapes by number or by letter. */
const LITERAL = /[^\\]+|\\x([0-9a-fA-F]{2})|\\([0-7]{1,3})|\\([^]|$)/g;

/** A line of STRING: a literal of Python 2 in quotes; undefined where it is not one. */
export function parseString(line: Uint8Array): PickleValue | undefined {
  const text = latin1(line).trim();
  const quoted = /^(['"])([^]*)\1$/.exec(text)?.[2];
  if (quoted === undefined) return undefined;
  const bytes = new Uint8Array(quoted.length);
  let length = 0;
  for (const [run, hex, octal, letter] of quoted.matchAll(LITERAL)) {
    if (hex !== undefined) bytes[length++] = parseInt(hex, 16);
    else if (octal !== undefined) bytes[length++] = parseInt(octal, 8);
    else if (letter === undefined) {
      for (let i = 0; i < run.length; i++) bytes[length++] = run.charCodeAt(i);
    } else {
      const code = ESCAPES.get(letter);
      if (code === undefined) bytes[length++] = 92; // an escape that Python does not know is two characters
      if (letter !== "") bytes[length++] = code ?? letter.charCodeAt(0);
    }
  }
  return decodeString(bytes.subarray(0, length));
}

/** A line of UNICODE: Latin-1 with \\u escapes. */
export function parseUnicode(line: Uint8Array): string | undefined {
  try {
    return latin1(line).replace(/\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g, (_, short, long) => {
      return String.fromCodePoint(parseInt(short ?? long, 16));
    });
  } catch {
    return undefined; // beyond U+10FFFF
  }
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += LATIN1_CHUNK) {
    text += String.fromCharCode(...bytes.subarray(at, at + LATIN1_CHUNK));
  }
  return text;
}

function smallest(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
