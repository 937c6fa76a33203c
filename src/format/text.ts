/** Text as the format sees it: UTF-8 bytes, not JavaScript's UTF-16. */

/** The longest text quoted in a message; a hostile file can have names of many megabytes. */
const MAX_QUOTED = 120;

/** `text` in double quotes for a message: control characters escaped, and cut short where it is very long. */
export function quote(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}

/** Compares by UTF-8 bytes, that is by code point; JavaScript's `<` compares UTF-16 units, and differs above U+D7FF. */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return codePointRank(x) - codePointRank(y);
  }
  return a.length - b.length;
}

/** Ranks UTF-16 units as the code points they stand for: surrogates (U+10000 and above) come after U+FFFF. */
function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/**
 * The position of the first byte that is not UTF-8, or -1 where all of it is: no overlong form, no surrogate,
 * nothing above U+10FFFF.
 *
 * A fatal `TextDecoder` would not say where, and on text that is mostly ASCII takes eight times as long.
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

/** The length of the UTF-8 sequence at `i`, 0 where it is malformed (the table 3-7 of the Unicode Standard). */
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
