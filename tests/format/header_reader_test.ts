import { assert, assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import type { Header, TensorInfo } from "../../src/format/header.ts";
import { headerLength, parseHeader } from "../../src/format/header_reader.ts";

/** Reads a whole file, as a caller does. */
function read(file: Uint8Array, options: { path?: string } = {}): Header {
  const length = headerLength(file.subarray(0, 64), file.length, options);
  return parseHeader(file.subarray(8, 8 + length), file.length, options);
}

/** Reads a header that `dataLength` bytes follow. */
function parse(json: string, dataLength = 0, options: { path?: string } = {}): Header {
  const bytes = new TextEncoder().encode(json);
  return parseHeader(bytes, 8 + bytes.length + dataLength, options);
}

/** The error of an invalid header. */
function refusal(
  json: string,
  dataLength = 0,
  options: { path?: string } = {},
): SafeTensorsError {
  return assertThrows(() => parse(json, dataLength, options), SafeTensorsError);
}

function tensor(
  name: string,
  dtype: string,
  shape: string,
  begin: number | string,
  end: number | string,
): string {
  return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}

interface ConformanceCase {
  name: string;
  base64: string;
  reference: string;
  ours: "accept" | "reject";
}

const cases: ConformanceCase[] = JSON.parse(
  Deno.readTextFileSync(new URL("../data/reader-cases.json", import.meta.url)),
);

for (const { name, base64, reference, ours } of cases) {
  Deno.test(`parseHeader() ${ours}s "${name}", the reference says ${reference}`, () => {
    const file = Uint8Array.fromBase64(base64);
    if (ours === "accept") {
      read(file);
      return;
    }
    const error = assertThrows(
      () => read(file, { path: "x.safetensors" }),
      SafeTensorsError,
      "x.safetensors",
    );
    assertEquals(error.path, "x.safetensors");
    if (reference !== "accept") assertEquals(error.code, reference);
  });
}

Deno.test("parseHeader() reads the reference's output, in the order of the bytes", () => {
  const file = Deno.readFileSync(new URL("../data/reference/all_dtypes.safetensors", import.meta.url));
  const expected: Record<string, { dtype: string; shape: number[] }> = JSON.parse(
    Deno.readTextFileSync(new URL("../data/reference/all_dtypes.expected.json", import.meta.url)),
  );
  const header = read(file);
  assertEquals(header.dataStart, 6128);
  assertEquals(header.dataLength, file.length - 6128);
  assertEquals(header.metadata, new Map([["format", "pt"]]));
  assertEquals(header.tensors.size, Object.keys(expected).length);
  let end = 0;
  for (const info of header.tensors.values()) {
    assertEquals(info.begin, end);
    end = info.end;
    assertEquals({ dtype: info.dtype, shape: info.shape }, {
      dtype: expected[info.name]!.dtype as TensorInfo["dtype"],
      shape: expected[info.name]!.shape,
    });
  }
  assertEquals(end, header.dataLength);
});

Deno.test("parseHeader() reads every field, in any order and spelling", () => {
  const header = parse(
    String
      .raw` { "b" : {"data_offsets":[4 , 10],"extra":{"x":[1,{}]},"shape":[3,1],"\u0064type":"\u0046\u0031\u0036"},
      "__metadata__": {"k":"v","":"\u00e9"}, "\u0061": {"dtype":"F32","shape":[],"data_offsets":[0,4]} } ` +
      "\n\t\r ",
    10,
  );
  assertEquals([...header.tensors.values()], [
    { name: "a", dtype: "F32", shape: [], begin: 0, end: 4 },
    { name: "b", dtype: "F16", shape: [3, 1], begin: 4, end: 10 },
  ]);
  assertEquals(header.metadata, new Map([["k", "v"], ["", "é"]]));
  assertEquals(header.dataLength, 10);
});

Deno.test("parseHeader() returns empty metadata for a header without metadata", () => {
  for (const json of ["{}", '{"__metadata__":{}}', '{"__metadata__":null}', "  {}  "]) {
    const header = parse(json);
    assertEquals(header.metadata, new Map());
    assertEquals(header.tensors, new Map());
    assertEquals(header.dataStart, 8 + json.length);
    assertEquals(header.dataLength, 0);
  }
});

Deno.test("parseHeader() orders tensors by their bytes and keeps the order of empty ones at one offset", () => {
  const members = [
    tensor("last", "U8", "[2]", 3, 5),
    tensor("z", "U8", "[0]", 3, 3),
    tensor("y", "F64", "[4,0]", 3, 3),
    tensor("first", "U8", "[3]", 0, 3),
    tensor("end", "I8", "[0]", 5, 5),
    tensor("start", "I8", "[0]", 0, 0),
  ];
  const header = parse(`{${members}}`, 5);
  assertEquals([...header.tensors.keys()], ["start", "first", "z", "y", "last", "end"]);
});

Deno.test("parseHeader() accepts names of object properties, such as __proto__", () => {
  const names = [
    "__proto__",
    "constructor",
    "toString",
    "",
    "0",
    "10",
    "9",
    "\0",
    "\x7f",
    "\u2028",
    "😀",
    "é",
  ];
  const members = names.map((name, i) => tensor(name, "U8", "[1]", i, i + 1));
  const header = parse(`{${members}}`, names.length);
  assertEquals([...header.tensors.keys()], names);
  assertEquals(header.tensors.get("__proto__")!.begin, 0);
  assertEquals(parse('{"__metadata__":{"__proto__":"x"}}').metadata, new Map([["__proto__", "x"]]));
});

Deno.test("parseHeader() does not round: sizes and offsets above 2^53 are compared exactly", () => {
  const beyond = (shape: string, end: string, dtype = "U8") =>
    refusal(`{${tensor("a", dtype, shape, 0, end)}}`).code;
  assertEquals(beyond("[9007199254740993]", "9007199254740993"), "MetadataIncompleteBuffer");
  assertEquals(beyond("[9007199254740993]", "9007199254740992"), "TensorInvalidInfo");
  assertEquals(beyond("[9007199254740992]", "9007199254740993"), "TensorInvalidInfo");
  assertEquals(beyond("[3,3002399751580331]", "9007199254740993"), "MetadataIncompleteBuffer");
  assertEquals(beyond("[3,3002399751580331]", "9007199254740992"), "TensorInvalidInfo");
  assertEquals(beyond("[2305843009213693951]", "2305843009213693951"), "MetadataIncompleteBuffer");
  assertEquals(beyond("[2305843009213693952]", "2305843009213693952"), "ValidationOverflow");
  assertEquals(beyond("[36028797018963969]", "18014398509481984", "F4"), "MisalignedSlice");
  assertEquals(beyond("[36028797018963970]", "18014398509481985", "F4"), "MetadataIncompleteBuffer");
});

Deno.test("parseHeader() compares adjacent offsets above 2^53 exactly", () => {
  const a = tensor("a", "U8", "[9007199254740992]", 0, "9007199254740992");
  const touching = tensor("b", "U8", "[3]", "9007199254740992", "9007199254740995");
  const apart = tensor("b", "U8", "[2]", "9007199254740993", "9007199254740995");
  assertEquals(refusal(`{${a},${touching}}`).code, "MetadataIncompleteBuffer");
  assertEquals(refusal(`{${a},${apart}}`).code, "InvalidOffset");
  assertEquals(refusal(`{${apart},${a}}`).code, "InvalidOffset");
});

Deno.test("parseHeader() multiplies dimensions from left to right", () => {
  const huge = "9223372036854775808";
  const shape = (text: string) => parse(`{${tensor("a", "I32", text, 0, 0)}}`).tensors.get("a")!.shape;
  assertEquals(shape(`[${huge},0]`), [2 ** 63, 0]);
  assertEquals(shape(`[0,${huge},4]`), [0, 2 ** 63, 4]);
  assertEquals(shape("[0,18446744073709551615]"), [0, 2 ** 64]);
  assertEquals(refusal(`{${tensor("a", "I32", `[${huge},4,0]`, 0, 0)}}`).code, "ValidationOverflow");
  assertEquals(
    refusal(`{${tensor("a", "I32", "[4294967296,4294967296,0]", 0, 0)}}`).code,
    "ValidationOverflow",
  );
});

Deno.test("parseHeader() reports the first fault in the file", () => {
  const members = [
    tensor("late", "F4", "[3]", 8, 10),
    tensor("early", "U8", "[3]", 4, 8),
    tensor("good", "U8", "[4]", 0, 4),
  ];
  const error = refusal(`{${members}}`, 10);
  assertEquals([error.code, error.tensor], ["TensorInvalidInfo", "early"]);
});

Deno.test("parseHeader() rejects duplicate names, and reports other faults first", () => {
  const a = tensor("a", "U8", "[4]", 0, 4);
  const again = String.raw`"\u0061":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}`;
  for (const [json, length] of [[`{${a},${a}}`, 4], [`{${a},${a},${a}}`, 4]] as const) {
    const error = refusal(json, length, { path: "m" });
    assertEquals([error.code, error.tensor, error.path], ["DuplicateName", "a", "m"]);
  }
  assertEquals(refusal(`{${a},${again}}`, 8).code, "InvalidOffset");
  assertEquals(refusal(`{${a},${a}}`, 5).code, "MetadataIncompleteBuffer");
  assertEquals(refusal('{"__metadata__":{"k":"v","\\u006b":"v"}}').code, "DuplicateName");
  assertEquals(refusal('{"__metadata__":{},"__metadata__":{}}').code, "InvalidHeaderDeserialization");
  assertEquals(refusal('{"__metadata__":null,"__metadata__":null}').code, "InvalidHeaderDeserialization");
  const twice = '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1,"x":{"y":1,"y":2}}}';
  assertEquals(parse(twice).tensors.size, 1);
});

Deno.test("parseHeader() bounds metadata entries and the dimensions of a tensor", () => {
  const entries = (count: number) => `{"__metadata__":{${'"k":"",'.repeat(count - 1)}"k":""}}`;
  const error = refusal(entries(2_097_153));
  assertEquals([error.code, error.tensor], ["TooManyTensors", undefined]);
  assert(error.message.includes("more than 2097152 metadata entries"), error.message);
  assertEquals(refusal(entries(2_097_152)).code, "DuplicateName");
  assertEquals(refusal(`{${tensor("a", "U8", `[0${",1".repeat(4096)}]`, 0, 0)}}`).code, "RankTooLarge");
  parse(`{${tensor("a", "U8", `[0${",1".repeat(4095)}]`, 0, 0)}}`);
});

Deno.test("parseHeader() reads as many tensors as large models have", () => {
  const count = 1_100_000;
  const members = Array.from({ length: count }, (_, i) => tensor(`t${i}`, "U8", "[1]", i, i + 1));
  const { tensors } = parse(`{${members}}`, count);
  assertEquals(tensors.size, count);
  assertEquals(tensors.get("t1099999")!.end, count);
});

Deno.test("parseHeader() bounds the dimensions of all tensors together", () => {
  const shape = `[0${",1".repeat(4095)}]`;
  const members = Array.from({ length: 2049 }, (_, i) => tensor(`${i}`, "U8", shape, 0, 0));
  assertEquals(refusal(`{${members}}`).code, "RankTooLarge");
});

Deno.test("parseHeader() names the file, the tensor and the offset", () => {
  const error = refusal('{"w":{"dtype":"F32","shape":[-1]}}', 0, { path: "dir/m.safetensors" });
  assertEquals(
    error.message,
    'Cannot read tensor "w" in the header of "dir/m.safetensors": at offset 37, an unsigned integer expected, "-" found',
  );
  assertEquals([error.path, error.tensor], ["dir/m.safetensors", "w"]);
  assertEquals(
    refusal(`{${tensor("w", "Q4_K", "[]", 0, 0)}}`).message.includes('"Q4_K" is not a dtype of the format'),
    true,
  );
  assertEquals(
    refusal(`{${tensor("w", "F32", "[2,3]", 0, 23)}}`, 23).message,
    'Cannot read tensor "w" in the safetensors header: F32 [2, 3] takes 24 bytes, data bytes 0 to 23 are 23',
  );
});

Deno.test("parseHeader() shortens long names in messages", () => {
  const error = refusal(`{"${"n".repeat(100_000)}":1}`);
  assert(error.message.length < 400);
  assertEquals(error.tensor!.length, 100_000);
});

Deno.test("parseHeader() recognises NUL padding and a header that was never written", () => {
  assertEquals(refusal("{}\0\0").message.includes("padded with spaces"), true);
  assertEquals(refusal("").message.includes("never written"), true);
});

Deno.test("headerLength() returns the length of the JSON", () => {
  const first = Uint8Array.of(0x10, 0x27, 0, 0, 0, 0, 0, 0, 0x7b);
  assertEquals(headerLength(first, 10_008), 10_000);
  assertEquals(headerLength(first.subarray(0, 8), 2 ** 40), 10_000);
  assertEquals(headerLength(new Uint8Array(8), 8), 0);
});

Deno.test("headerLength() checks the limit before the size of the file", () => {
  const first = new Uint8Array(8);
  const code = (length: number, size: number) => {
    new DataView(first.buffer).setBigUint64(0, BigInt(length), true);
    return assertThrows(() => headerLength(first, size), SafeTensorsError).code;
  };
  assertEquals(code(1000, 7), "HeaderTooSmall");
  assertEquals(code(1000, 1007), "InvalidHeaderLength");
  assertEquals(code(100_000_000, 1007), "InvalidHeaderLength");
  assertEquals(code(100_000_001, 1007), "HeaderTooLarge");
  assertEquals(code(100_000_001, 2 ** 30), "HeaderTooLarge");
  assertThrows(() => headerLength(first.subarray(0, 7), 1008), RangeError);
});

Deno.test("headerLength() does not mistake a truncated safetensors file for another format", () => {
  for (const start of [0x7b, 0x227b, 0x0280, 0x088b1f]) {
    const first = new Uint8Array(64).fill(0x22, 8);
    new DataView(first.buffer).setUint32(0, start, true);
    const error = assertThrows(() => headerLength(first, 64), SafeTensorsError);
    assertEquals(error.code, "InvalidHeaderLength");
    assertEquals(error.message.endsWith("56 found: it is truncated"), true);
  }
});

Deno.test("parseHeader() gives tensors of one shape one frozen array, and others their own numbers", () => {
  const shapes = Array.from({ length: 1000 }, (_, size) => [size % 3, size, 0]);
  const entries = [...shapes, ...shapes].map((shape, index) => tensor(`t${index}`, "U8", `[${shape}]`, 0, 0));
  const { tensors } = parse(
    `{${entries},${tensor("x", "U8", "[4,2]", 0, 8)},${tensor("y", "U8", "[4,2]", 8, 16)}}`,
    16,
  );
  assertEquals([...tensors.values()].map(({ shape }) => shape), [...shapes, ...shapes, [4, 2], [4, 2]]);
  assert([...tensors.values()].every(({ shape }) => Object.isFrozen(shape)));
  assert(tensors.get("x")!.shape === tensors.get("y")!.shape);
});

/** Headers of which the reader reads the first form in one pass over its bytes, the second one token by token. */
const FORMS: readonly (readonly [what: string, json: (tab: string) => string, dataLength: number])[] = [
  ["a tensor", (tab) => `{"a":${tab}{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}`, 8],
  [
    "spaces",
    (tab) => `{ "a" : ${tab}{ "dtype" : "U8" , "shape" : [ 1 , 2 ] , "data_offsets" : [ 0 , 2 ] } }`,
    2,
  ],
  ["a scalar and an empty tensor", (tab) => {
    const scalar = `"s":${tab}{"dtype":"F8_E4M3FNUZ","shape":[],"data_offsets":[0,1]}`;
    return `{${scalar},"e":${tab}{"dtype":"F8_E4M3","shape":[0, 7],"data_offsets":[1,1]}}`;
  }, 1],
  ["metadata after tensors", (tab) => {
    return `{"é":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"k":"v"}}`;
  }, 1],
  ["tensors in another order", (tab) => {
    const later = `"a":${tab}{"dtype":"U8","shape":[2],"data_offsets":[1,3]}`;
    return `{${later},"b":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`;
  }, 3],
  ["a tensor named as the metadata", (tab) => {
    return `{"__metadata__":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`;
  }, 1],
  ["one name twice", (tab) => {
    const first = `"a":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1]}`;
    return `{${first},"a":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`;
  }, 1],
  ["an unknown dtype", (tab) => `{"a":${tab}{"dtype":"F8_E4M","shape":[1],"data_offsets":[0,1]}}`, 1],
  ["a leading zero", (tab) => `{"a":${tab}{"dtype":"U8","shape":[01],"data_offsets":[0,1]}}`, 1],
  ["a fraction", (tab) => `{"a":${tab}{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}`, 1],
  ["an exponent", (tab) => `{"a":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1e0]}}`, 1],
  ["a range that ends before it begins", (tab) => {
    return `{"a":${tab}{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`;
  }, 1],
  ["a size that does not fit", (tab) => `{"a":${tab}{"dtype":"I16","shape":[3],"data_offsets":[0,5]}}`, 5],
  ["more bits than a u64 counts", (tab) => {
    return `{"a":${tab}{"dtype":"U8","shape":[999999999999999,999999999999999,0],"data_offsets":[0,0]}}`;
  }, 0],
  ["half a byte", (tab) => `{"a":${tab}{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1],
  ["many dimensions", (tab) => {
    return `{"a":${tab}{"dtype":"U8","shape":[${Array(40).fill(1)}],"data_offsets":[0,1]}}`;
  }, 1],
  ["another field", (tab) => `{"a":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1],
  ["no end", (tab) => `{"a":${tab}{"dtype":"U8","shape":[1],"data_offsets":[0,1]`, 1],
  ["a name without an end", () => `{"a`, 1],
];

for (const [what, json, dataLength] of FORMS) {
  Deno.test(`parseHeader() reads the two forms of ${what} alike`, () => {
    // The error's position is that of one more byte; and the data begin one byte later.
    const outcome = (tab: string) => {
      try {
        const { tensors, metadata } = parse(json(tab), dataLength);
        return { tensors: [...tensors.values()], metadata };
      } catch (error) {
        const { code, message, tensor } = error as SafeTensorsError;
        return { code, tensor, message: message.replace(/offset \d+, /, "") };
      }
    };
    assertEquals(outcome(""), outcome("\t"));
  });
}
