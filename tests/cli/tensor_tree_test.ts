import { assertEquals } from "@std/assert";
import { drawTree } from "../../src/cli/tensor_tree.ts";

/** Tensors of one byte, or of the number of bytes after the name. */
function draw(names: Record<string, number> | string[], depth?: number): string[] {
  const entries = Array.isArray(names) ? names.map((name) => [name, 1] as const) : Object.entries(names);
  const tensors = entries.map(([name, bytes]) => ({ name, dtype: "U8", shape: [bytes], bytes }));
  return drawTree(tensors, depth).split("\n");
}

Deno.test("drawTree() joins a branch with its only child", () => {
  assertEquals(draw(["a.b.c"]), ["a.b.c  U8  [1]  1 byte"]);
  assertEquals(draw(["a.b.c", "a.b.d"]), [
    "a.b       2 tensors  2 bytes",
    "├─ c  U8  [1]         1 byte",
    "└─ d  U8  [1]         1 byte",
  ]);
});

Deno.test("drawTree() joins runs of numbers only if they look the same", () => {
  assertEquals(draw({ "x.0": 1, "x.1": 1, "x.2": 2, "x.3": 2, "x.5": 2, "x.06": 2 }), [
    "x           6 tensors     10 bytes",
    "├─ 0–1  U8  [1]         2 × 1 byte",
    "├─ 2–3  U8  [2]        2 × 2 bytes",
    "├─ 5    U8  [2]            2 bytes",
    "└─ 06   U8  [2]            2 bytes",
  ]);
});

Deno.test("drawTree() joins runs within runs, and counts them all", () => {
  const names = [0, 1, 2].flatMap((layer) =>
    [0, 1].flatMap((e) => [`l.${layer}.e.${e}.w`, `l.${layer}.e.${e}.b`])
  );
  assertEquals(draw(names), [
    "l.0–2.e      3 × 4 tensors  3 × 4 bytes",
    "└─ 0–1       2 × 2 tensors  2 × 2 bytes",
    "   ├─ b  U8  [1]                 1 byte",
    "   └─ w  U8  [1]                 1 byte",
  ]);
  assertEquals(draw(["l.0.w", "l.1.w"]), ["l.0–1.w  U8  [1]  2 × 1 byte"]);
});

Deno.test("drawTree() shows a tensor whose name is a prefix of others", () => {
  assertEquals(draw(["a", "a.b", "a.c"]), [
    "a     U8  [1]         1 byte",
    "a         2 tensors  2 bytes",
    "├─ b  U8  [1]         1 byte",
    "└─ c  U8  [1]         1 byte",
  ]);
});

Deno.test("drawTree() shows empty parts of names, and the empty name", () => {
  assertEquals(draw([""]), [`""  U8  [1]  1 byte`]);
  assertEquals(draw(["a..b"]), [`a."".b  U8  [1]  1 byte`]);
});

Deno.test("drawTree() accepts a name of many dots", () => {
  const dots = "a.".repeat(100_000);
  assertEquals(draw([`${dots}x`, `${dots}y`], 1), [`${"a.".repeat(62)}a    2 tensors  2 bytes`]);
});

Deno.test("drawTree() shows the given number of levels", () => {
  assertEquals(draw(["a.b.c", "a.b.d", "a.e"], 2), [
    "a         3 tensors  3 bytes",
    "├─ b      2 tensors  2 bytes",
    "└─ e  U8  [1]         1 byte",
  ]);
});
