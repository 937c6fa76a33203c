import { assertEquals } from "@std/assert";
import { finishNow } from "../../src/base/steps.ts";
import { TensorTable } from "../../src/files/tensor_table.ts";
import { tableSteps } from "../../src/format/header_reader.ts";

/** The table of a file with these tensors of one byte each, in this order. */
function table(names: readonly string[], file: number): { table: TensorTable; start: number } {
  const members = names.map((name, index) =>
    `${JSON.stringify(name)}:{"dtype":"U8","shape":[1],"data_offsets":[${index},${index + 1}]}`
  );
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const header = finishNow(tableSteps(json, 8 + json.length + names.length));
  return { table: TensorTable.of(header, file), start: 8 + json.length };
}

Deno.test("TensorTable has the tensors of several files, one file after another", () => {
  const first = table(["b", "a"], 0), second = table(["c", "é"], 1);
  const joined = finishNow(TensorTable.joinSteps([first.table, second.table]))!;
  assertEquals([...joined.keys()], ["b", "a", "c", "é"]);
  assertEquals([joined.size, joined.has("é"), joined.has("d"), joined.get("d")], [4, true, false, undefined]);
  assertEquals(joined.get("é"), {
    name: "é",
    dtype: "U8",
    shape: [1],
    file: 1,
    fileOffset: second.start + 1,
    byteLength: 1,
  });
  assertEquals([...joined].map(([name, { file, fileOffset }]) => [name, file, fileOffset]), [
    ["b", 0, first.start],
    ["a", 0, first.start + 1],
    ["c", 1, second.start],
    ["é", 1, second.start + 1],
  ]);
});

Deno.test("TensorTable cannot have two tensors of one name", () => {
  const tables = [table(["a", "b"], 0).table, table(["c", "b"], 1).table];
  assertEquals(finishNow(TensorTable.joinSteps(tables)), null);
});

Deno.test("TensorTable selects tensors by name, in the same order", () => {
  const { table: all, start } = table(["a", "b", "c", "d"], 3);
  const selected = finishNow(all.selectSteps((name) => name === "d" || name === "b"));
  assertEquals([...selected.keys()], ["b", "d"]);
  assertEquals([selected.get("a"), selected.get("d")?.fileOffset, selected.get("d")?.file], [
    undefined,
    start + 3,
    3,
  ]);
  assertEquals([...finishNow(all.selectSteps(() => false))], []);
});
