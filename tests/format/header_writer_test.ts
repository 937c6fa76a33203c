import { assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import type { DType } from "../../src/base/dtype.ts";
import { parseHeader } from "../../src/format/header_reader.ts";
import { layoutHeader, type TensorSpec } from "../../src/format/header_writer.ts";

interface WriterCase {
  name: string;
  tensors: TensorSpec[];
  metadata: Record<string, string> | null;
  header: string;
}

const cases: WriterCase[] = JSON.parse(
  Deno.readTextFileSync(new URL("../data/writer-cases.json", import.meta.url)),
);

for (const { name, tensors, metadata, header } of cases) {
  Deno.test(`layoutHeader() writes the reference's bytes: ${name}`, () => {
    assertEquals(layoutHeader(tensors, metadata ?? undefined).bytes, Uint8Array.fromBase64(header));
    assertEquals(
      layoutHeader(tensors.toReversed(), metadata ?? undefined).bytes,
      Uint8Array.fromBase64(header),
    );
  });
}

Deno.test("layoutHeader() writes the reference's bytes for all 22 dtypes", () => {
  const file = Deno.readFileSync(new URL("../data/reference/all_dtypes.safetensors", import.meta.url));
  const length = Number(new DataView(file.buffer).getBigUint64(0, true));
  const read = parseHeader(file.subarray(8, 8 + length), file.length);
  const written = layoutHeader([...read.tensors.values()].sort(() => -1), read.metadata);
  assertEquals(written.bytes, file.slice(0, 8 + length));
  assertEquals(written.header, read);
});

const U8 = (name: string, ...shape: number[]): TensorSpec => ({ name, dtype: "U8", shape });

Deno.test("parseHeader() reads the output of layoutHeader()", () => {
  const { bytes, header } = layoutHeader(
    [U8("b", 3), { name: "a", dtype: "F32", shape: [2, 2] }, { name: "c", dtype: "F4", shape: [4] }],
    new Map([["k", "v"]]),
  );
  assertEquals(header.dataStart, bytes.length);
  assertEquals(header.dataLength, 21);
  assertEquals([...header.tensors.keys()], ["a", "b", "c"]);
  assertEquals(parseHeader(bytes.subarray(8), bytes.length + 21), header);
});

Deno.test("layoutHeader() sorts metadata from records and maps", () => {
  const sorted = '{"__metadata__":{"":"0","1":"x","10":"y","9":"z","\uffff":"1","😀":"2"}}';
  const entries = [["😀", "2"], ["9", "z"], ["\uffff", "1"], ["", "0"], ["10", "y"], ["1", "x"]] as const;
  for (const metadata of [new Map(entries), Object.fromEntries(entries)]) {
    assertEquals(new TextDecoder().decode(layoutHeader([], metadata).bytes.subarray(8)).trimEnd(), sorted);
  }
});

Deno.test("layoutHeader() writes valid JSON for empty metadata without tensors", () => {
  const { bytes } = layoutHeader([], {});
  assertEquals(new TextDecoder().decode(bytes.subarray(8)), '{"__metadata__":{}}     ');
});

Deno.test("layoutHeader() copies shapes", () => {
  const shape = [2, 3];
  const { header } = layoutHeader([{ name: "a", dtype: "U8", shape }]);
  shape[0] = 7;
  assertEquals(header.tensors.get("a")!.shape, [2, 3]);
});

Deno.test("layoutHeader() rejects tensors that the format does not allow", () => {
  const refuse = (...tensors: TensorSpec[]) => {
    const error = assertThrows(() => layoutHeader(tensors), SafeTensorsError, "Cannot write tensor");
    return [error.code, error.tensor];
  };
  assertEquals(refuse(U8("__metadata__", 1)), ["InvalidTensorView", "__metadata__"]);
  assertEquals(refuse(U8("a\ud800", 1)), ["InvalidTensorView", "a\ud800"]);
  assertEquals(refuse(U8("a", 1), U8("b", 1), U8("a", 2)), ["DuplicateName", "a"]);
  assertEquals(refuse(U8("a", 1), { name: "a", dtype: "F32", shape: [] }), ["DuplicateName", "a"]);
  assertEquals(refuse({ name: "a", dtype: "F4", shape: [3] }), ["MisalignedSlice", "a"]);
  assertEquals(refuse({ name: "a", dtype: "F6_E2M3", shape: [2] }), ["MisalignedSlice", "a"]);
  assertEquals(refuse({ name: "a", dtype: "F64", shape: [2 ** 32, 2 ** 31] }), ["ValidationOverflow", "a"]);
  assertEquals(refuse(U8("a", 2 ** 53 - 1), U8("b", 1)), ["ValidationOverflow", "b"]);
});

Deno.test("layoutHeader() rejects wrong arguments", () => {
  for (const dimension of [-1, 1.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => layoutHeader([U8("a", 1, dimension)]), RangeError, `${dimension}`);
  }
  assertThrows(() => layoutHeader([{ name: "a", dtype: "f32" as DType, shape: [] }]), TypeError, '"f32"');
  assertThrows(() => layoutHeader([{ ...U8("a"), name: 1 as unknown as string }]), TypeError);
  assertThrows(() => layoutHeader([], { a: 1 as unknown as string }), TypeError, '"a"');
  for (const metadata of [{ "\udc00": "" }, { a: "x\ud800" }]) {
    const error = assertThrows(() => layoutHeader([], metadata), SafeTensorsError);
    assertEquals(error.code, "InvalidHeader");
  }
});

Deno.test("layoutHeader() rejects a header that readers do not accept", () => {
  const error = assertThrows(() => layoutHeader([], { a: "x".repeat(100_000_000) }), SafeTensorsError);
  assertEquals(error.code, "HeaderTooLarge");
});
