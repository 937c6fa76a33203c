import { assertEquals } from "@std/assert";
import { NameTable } from "../../src/format/name_table.ts";

Deno.test("NameTable finds each name, and no other, while it grows", () => {
  const table = new NameTable(1, 1);
  const names = [
    "",
    "a",
    "ab",
    "abcd",
    "abcde",
    "é",
    "日本",
    "\u{1f600}",
    "\ufffd",
    "__proto__",
    "x".repeat(70_000),
  ];
  for (let index = 0; index < 5000; index++) names.push(`model.layers.${index}.weight`, `${index}`);
  for (const name of names) assertEquals(table.addText(name), true, name.slice(0, 40));
  assertEquals(table.size, names.length);
  for (const [row, name] of names.entries()) {
    assertEquals([table.find(name), table.text(row)], [row, name]);
  }
  for (
    const absent of [
      "b",
      "abc",
      "abcdef",
      "model.layers.5000.weight",
      "e",
      "\ud800",
      "\udc00a",
      "日",
      "日本語",
    ]
  ) {
    assertEquals(table.find(absent), -1, JSON.stringify(absent));
  }
});

Deno.test("NameTable keeps every row of a name that is added twice, and finds the first", () => {
  const table = new NameTable();
  assertEquals(["a", "b", "a", "b", "a"].map((name) => table.addText(name)), [
    true,
    true,
    false,
    false,
    false,
  ]);
  for (let index = 0; index < 100; index++) table.addText(`c${index}`); // it grows
  assertEquals([table.find("a"), table.find("b"), table.find("c99")], [0, 1, 104]);
  assertEquals([2, 3, 4].map((row) => table.text(row)), ["a", "b", "a"]);
});

Deno.test("NameTable copies names from bytes and from other tables", () => {
  const bytes = new TextEncoder().encode("..weightébias");
  const table = new NameTable();
  assertEquals([table.add(bytes, 2, 8), table.add(bytes, 8, 10), table.add(bytes, 10, 14)], [
    true,
    true,
    true,
  ]);
  bytes.fill(0);
  const other = new NameTable();
  for (const row of [2, 0, 1, 0]) other.addFrom(table, row);
  assertEquals([0, 1, 2, 3].map((row) => other.text(row)), ["bias", "weight", "é", "weight"]);
  assertEquals([other.find("weight"), other.find("é"), other.find("bias")], [1, 2, 0]);
});
