/**
 * Formats numbers and tables for people.
 */

export { printable } from "../base/text.ts";

/** Bytes in decimal units, as GB/s are: `1.07 GB`. */
export function formatBytes(bytes: number): string {
  if (bytes === 1) return "1 byte";
  const units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
  let value = bytes, unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
}

/** A number of things: `1 file`, `12,345 tensors`. */
export function formatCount(count: number, thing: string): string {
  return `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;
}

/** A rate in GB/s, 1e9 bytes per second. */
export function formatRate(gigabytesPerSecond: number): string {
  if (gigabytesPerSecond > 0 && gigabytesPerSecond < 0.01) return "<0.01 GB/s";
  return `${gigabytesPerSecond.toFixed(gigabytesPerSecond < 10 ? 2 : 1)} GB/s`;
}

/** A duration: `0.084 s`. */
export function formatSeconds(seconds: number): string {
  return `${seconds.toFixed(3)} s`;
}

/** A remaining time: `9 s`, `2:05`, `1:02:05`. */
export function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [first, ...rest] = parts[0] === 0 ? parts.slice(1) : parts;
  return [first, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
}

/** Breaks text into lines of at most `width` characters; longer words stay whole. An empty line ends a paragraph. */
export function wrap(text: string, width: number): string {
  return text.split("\n\n").map((paragraph) => {
    const lines: string[] = [];
    for (const word of paragraph.split(/\s+/)) {
      const last = lines.at(-1);
      if (last !== undefined && last.length + 1 + word.length <= width) {
        lines[lines.length - 1] = `${last} ${word}`;
      } else lines.push(word);
    }
    return lines.join("\n");
  }).join("\n\n");
}

/** Characters that take two columns of a terminal: East Asian wide and fullwidth ones, and emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe0f\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{1b2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;

/** Characters without a column, if no other one is before them. */
const MARKS = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;

const CHARACTERS = new Intl.Segmenter("en", { granularity: "grapheme" });

/** The columns of a terminal that a text takes. */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of CHARACTERS.segment(text)) {
    width += MARKS.test(segment) ? 0 : WIDE.test(segment) ? 2 : 1;
  }
  return width;
}

/** Formats rows as columns, each as wide as its widest cell; the columns in `right` are aligned to the right. */
export function formatTable(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell)));
  }
  const line = (row: readonly string[]) =>
    row.map((cell, column) => {
      const space = " ".repeat(widths[column]! - displayWidth(cell));
      return right.includes(column) ? space + cell : cell + space;
    }).join("  ").trimEnd();
  return rows.map(line).join("\n");
}
