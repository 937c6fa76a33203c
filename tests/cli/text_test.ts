import { assertEquals } from "@std/assert";
import { nameFilter } from "../../src/cli/inputs.ts";
import {
  displayWidth,
  formatBytes,
  formatCount,
  formatDuration,
  formatRate,
  formatTable,
  printable,
  wrap,
} from "../../src/cli/text.ts";
import { closestWord } from "../../src/base/closest_word.ts";

Deno.test("formatBytes() uses decimal units and three digits", () => {
  assertEquals(
    [0, 1, 999, 1000, 999_499, 999_500, 2 ** 30, 123_456_789_012].map(formatBytes),
    ["0 bytes", "1 byte", "999 bytes", "1.00 kB", "999 kB", "1.00 MB", "1.07 GB", "123 GB"],
  );
});

Deno.test("formatCount() and formatRate() format numbers and units", () => {
  assertEquals([formatCount(1, "file"), formatCount(91_991, "tensor")], ["1 file", "91,991 tensors"]);
  assertEquals([0, 0.001, 0.25, 12.34].map(formatRate), [
    "0.00 GB/s",
    "<0.01 GB/s",
    "0.25 GB/s",
    "12.3 GB/s",
  ]);
});

Deno.test("formatDuration() rounds up to seconds", () => {
  assertEquals([0.1, 59, 59.5, 125, 3600, 3725.2].map(formatDuration), [
    "1 s",
    "59 s",
    "1:00",
    "2:05",
    "1:00:00",
    "1:02:06",
  ]);
});

Deno.test("wrap() breaks between words, keeps paragraphs, and leaves a long word whole", () => {
  assertEquals(wrap("one two three\n\nfour", 8), "one two\nthree\n\nfour");
  assertEquals(wrap("a waytoolongword b", 5), "a\nwaytoolongword\nb");
});

Deno.test("closestWord() accepts two wrong letters in a long enough word", () => {
  const known = ["load", "inspect", "verify", "demo"];
  const words = ["lod", "laod", "inspectt", "verfy", "domo", "x", "dxxo", "remove", ""];
  assertEquals(
    words.map((word) => closestWord(word, known)),
    ["load", "load", "inspect", "verify", "demo", undefined, "demo", undefined, undefined],
  );
});

Deno.test("printable() escapes control characters", () => {
  assertEquals(printable("a\x1b[31m\n\u009b\u202eb é 層"), "a\\u001b[31m\\u000a\\u009b\\u202eb é 層");
});

Deno.test("formatTable() aligns columns", () => {
  assertEquals(
    formatTable([["name", "n"], ["a", "12"], ["long one", "3"]], [1]),
    "name       n\na         12\nlong one   3",
  );
});

Deno.test("displayWidth() counts the columns of wide, combined and invisible characters", () => {
  const texts = [
    "",
    "abc",
    "層.重み",
    "한국",
    "ｱ",
    "ＡＢ",
    "e\u0301",
    "é",
    "👩‍👩‍👧",
    "🇩🇪",
    "❤️",
    "…─×",
    "\u200d",
  ];
  assertEquals(texts.map(displayWidth), [0, 3, 7, 4, 1, 4, 1, 1, 2, 2, 2, 3, 0]);
});

Deno.test("formatTable() aligns wide characters by their columns", () => {
  assertEquals(
    formatTable([["層.重み", "1", "x"], ["a", "22", "重"], ["한", "3", ""]], [1]),
    "層.重み   1  x\na        22  重\n한        3",
  );
});

Deno.test("nameFilter() expands * and ? and matches all other characters literally", () => {
  const matches = (pattern: string, name: string) => nameFilter([pattern])!(name);
  assertEquals(matches("*.weight", "model.layers.0.weight"), true);
  assertEquals(matches("*.weight", "model.weights"), false);
  assertEquals(matches("layer?", "layer1"), true);
  assertEquals(matches("layer?", "layer12"), false);
  assertEquals(matches("a.b", "axb"), false);
  assertEquals(matches("[ab](c)", "[ab](c)"), true);
  assertEquals(matches("層?", "層𝔘"), true);
  assertEquals(nameFilter(["a", "b"])!("b"), true);
  assertEquals(nameFilter([]), undefined);
});
