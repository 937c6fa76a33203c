import { assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { type ShardPlan, type ShardRule, ShardRules } from "../../src/format/shard_plan.ts";

const rules = (plan: ShardPlan) => new ShardRules(plan);
const tensor = (name: string, shape: number[], dtype: "F32" | "F4" = "F32") => ({ name, shape, dtype });

Deno.test("ShardRules matches any characters by *, in the whole name", () => {
  const cases: [pattern: string, fitting: string[], others: string[]][] = [
    ["a.b", ["a.b"], ["a.bc", "xa.b", "a,b", ""]],
    ["*", ["", "a", "a.b.c"], []],
    ["a.*", ["a.", "a.b", "a.b.c"], ["a", "b.a."]],
    ["*.weight", [".weight", "x.weight", "x.weight.weight"], ["weight", "x.weights"]],
    ["*.q.*.w", ["m.q.1.w", ".q..w", "a.q.b.q.c.w"], ["m.q.w", ".q.w", "m.q.1.w2"]],
    ["a*a", ["aa", "aba", "aaa"], ["a", "ab"]],
    ["ab*bc*cd", ["abbccd", "ab-bc-cd", "abbcbccd"], ["abcd", "abbcd", "abccd"]],
    ["**", ["", "x"], []],
    ["a.+?[b", ["a.+?[b"], ["axx[b", "a.b"]],
  ];
  for (const [pattern, fitting, others] of cases) {
    for (const name of fitting) {
      assertEquals(rules({ [pattern]: 1 }).ruleOf(name), 1, `"${name}" fits "${pattern}"`);
    }
    for (const name of others) {
      assertEquals(rules({ [pattern]: 1 }).ruleOf(name), null, `"${name}", "${pattern}"`);
    }
  }
});

Deno.test("ShardRules uses the first pattern that matches", () => {
  const plan = rules({ "x.special": null, "x.*": 0, "*": 1 });
  assertEquals(["x.special", "x.other", "y"].map((name) => plan.ruleOf(name)), [null, 0, 1]);
});

Deno.test("ShardRules returns no part if a rank has the whole tensor", () => {
  assertEquals(rules({ "x": 0 }).partOf(tensor("y", [4]), 1, 2), null);
  assertEquals(rules({ "x": null, "*": 0 }).partOf(tensor("x", [4]), 1, 2), null);
  assertEquals(rules({ "x": 0 }).partOf(tensor("x", [4]), 0, 1), null);
});

Deno.test("ShardRules divides each of several parts", () => {
  // Three parts of 4 columns: rank 1 of 2 has the columns 2 and 3 of each.
  const layout = rules({ "x": { dimension: 1, parts: 3 } }).partOf(tensor("x", [5, 12]), 1, 2)!;
  assertEquals([layout.shape, layout.byteLength, layout.offset, layout.run], [[5, 6], 5 * 6 * 4, 8, 8]);
  assertEquals(layout.levels, [{ count: 15, stride: 16 }]);
  // Of 3 rows in each part, rank 1 of 2 has the last one.
  const rows = rules({ "x": { dimension: 0, parts: 2 } }).partOf(tensor("x", [6, 2]), 1, 2)!;
  assertEquals([rows.shape, rows.byteLength, rows.offset], [[2, 2], 16, 16]);
  const none = rules({ "x": { dimension: 0, parts: 2 } }).partOf(tensor("x", [2]), 1, 2)!;
  assertEquals([none.shape, none.byteLength], [[0], 0]);
});

Deno.test("ShardRules names a pattern and a tensor that do not match", () => {
  const plan = rules({ "*.w": 1, "*.qkv": { dimension: 0, parts: 3 } });
  const cut = (name: string, shape: number[], dtype: "F32" | "F4" = "F32") => () =>
    plan.partOf(tensor(name, shape, dtype), 0, 2);
  for (const part of ['"*.w"', '"a.w"', "[4]"]) assertThrows(cut("a.w", [4]), RangeError, part);
  assertThrows(cut("a.w", []), RangeError, "no dimensions");
  for (const part of ['"*.qkv"', '"a.qkv"', "3 equal parts"]) {
    assertThrows(cut("a.qkv", [8]), RangeError, part);
  }
  assertThrows(cut("a.w", [4, 6], "F4"), SafeTensorsError, "it would cut a byte");
});

Deno.test("ShardRules rejects an invalid plan", () => {
  const zeroParts = () => rules({ "a.*": { dimension: 0, parts: 0 } });
  assertThrows(zeroParts, RangeError, 'for "a.*", got { dimension: 0, parts: 0 }');
  assertThrows(() => rules(5 as unknown as ShardPlan), TypeError, "shardPlan");
  assertThrows(() => rules(null as unknown as ShardPlan), TypeError, "shardPlan");
  const senseless: [unknown, typeof Error][] = [
    [-1, RangeError],
    [0.5, RangeError],
    [NaN, RangeError],
    ["0", TypeError],
    [undefined, TypeError],
    [{ dimension: 0 }, RangeError],
    [{ dimension: -1, parts: 2 }, RangeError],
    [{ dimension: 0, parts: 0 }, RangeError],
  ];
  for (const [rule, type] of senseless) assertThrows(() => rules({ "x*": rule as ShardRule }), type, '"x*"');
});
