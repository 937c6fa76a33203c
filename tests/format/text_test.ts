import { assertEquals } from "@std/assert";
import { compareUtf8, findInvalidUtf8, quote } from "../../src/base/text.ts";
import { below, seededRandom } from "./mutations.ts";

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

Deno.test("findInvalidUtf8() finds the bytes that the platform's decoder rejects, at any alignment", () => {
  const random = seededRandom(1);
  const interesting = [
    0x00,
    0x41,
    0x7f,
    0x80,
    0xbf,
    0xc1,
    0xc2,
    0xe0,
    0xa0,
    0xed,
    0x9f,
    0xef,
    0xf0,
    0x90,
    0xf4,
    0x8f,
    0xf5,
  ];
  for (let i = 0; i < 20_000; i++) {
    const bytes = new Uint8Array(32).subarray(below(random, 4), 4 + below(random, 28));
    for (let k = 0; k < bytes.length; k++) {
      bytes[k] = random() < 0.6 ? 0x61 : interesting[below(random, interesting.length)]!;
    }
    const at = findInvalidUtf8(bytes);
    assertEquals(at === -1, isUtf8(bytes), `[${bytes}]`);
    if (at !== -1) assertEquals(isUtf8(bytes.subarray(0, at)), true, `[${bytes}] is good up to ${at}`);
  }
});

Deno.test("findInvalidUtf8() returns the position of the first invalid sequence", () => {
  assertEquals(findInvalidUtf8(new Uint8Array()), -1);
  assertEquals(findInvalidUtf8(new TextEncoder().encode("abc é € 😀 \u{10ffff}")), -1);
  assertEquals(findInvalidUtf8(Uint8Array.of(0x61, 0xff)), 1);
  assertEquals(findInvalidUtf8(Uint8Array.of(0x61, 0x61, 0x61, 0x61, 0x61, 0xc3)), 5);
  assertEquals(findInvalidUtf8(Uint8Array.of(0xc3, 0xa9, 0xed, 0xa0, 0x80)), 2);
});

Deno.test("compareUtf8() orders by UTF-8 bytes", () => {
  const texts = [
    "",
    "a",
    "a.10",
    "a.9",
    "b",
    "é",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "😀",
    "😀a",
    "😁",
    "\u{10ffff}",
  ];
  const bytes = (text: string) =>
    [...new TextEncoder().encode(text)].map((byte) => String.fromCharCode(byte)).join("");
  for (const a of texts) {
    for (const b of texts) {
      const expected = bytes(a) < bytes(b) ? -1 : bytes(a) > bytes(b) ? 1 : 0;
      assertEquals(Math.sign(compareUtf8(a, b)), expected, `${quote(a)} and ${quote(b)}`);
    }
  }
});

Deno.test("quote() escapes control characters, and leaves out the middle of a long text", () => {
  const texts: readonly (readonly [string, string])[] = [
    ["", '""'],
    ['a"\n', String.raw`"a\"\n"`],
    ["\u001b[31mred\u0007", String.raw`"\u001b[31mred\u0007"`],
    ["\u009b\u007f", String.raw`"\u009b\u007f"`],
    ["exe.\u202egpj\u2066\u200f", String.raw`"exe.\u202egpj\u2066\u200f"`],
    ["\u2028\ufeff\ud800", String.raw`"\u2028\ufeff\ud800"`],
    ["größe/模型", '"größe/模型"'],
    ["x".repeat(160), `"${"x".repeat(160)}"`],
    [`${"a".repeat(5000)}.weight`, `"${"a".repeat(80)}…${"a".repeat(73)}.weight"`],
    ["\u0001".repeat(100), `"${String.raw`\u0001`.repeat(13)}…${String.raw`\u0001`.repeat(13)}"`],
  ];
  for (const [text, quoted] of texts) assertEquals(quote(text), quoted);
  assertEquals(quote("\u0000".repeat(1e8)).length, 159);
});
