import { assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { finishNow } from "../../src/base/steps.ts";
import * as steps from "../../src/format/shard_index.ts";
import type { ShardIndex } from "../../src/format/shard_index.ts";

function parseShardIndex(...given: Parameters<typeof steps.parseShardIndex>): ShardIndex {
  return finishNow(steps.parseShardIndex(...given));
}

function writeShardIndex(...given: Parameters<typeof steps.writeShardIndex>): Uint8Array<ArrayBuffer> {
  return finishNow(steps.writeShardIndex(...given));
}

function parse(json: string, options?: { path?: string; maxBytes?: number }): ShardIndex {
  return parseShardIndex(new TextEncoder().encode(json), options);
}

function refusal(json: string, part = ""): SafeTensorsError {
  const error = assertThrows(() => parse(json, { path: "dir/x.index.json" }), SafeTensorsError, part);
  assertEquals([error.code, error.path], ["InvalidIndex", "dir/x.index.json"]);
  return error;
}

Deno.test("parseShardIndex() reads an index", () => {
  const index = parse(`{
    "metadata": {"total_size": 1234, "note": {"a": [1, null]}},
    "weight_map": {"b": "model-2-of-2.safetensors", "a": "model-1-of-2.safetensors", "\\u0063": "model-2-of-2.safetensors"},
    "other": [1.5, {"x": true}]
  }\n`);
  assertEquals([...index.weightMap], [
    ["b", "model-2-of-2.safetensors"],
    ["a", "model-1-of-2.safetensors"],
    ["c", "model-2-of-2.safetensors"],
  ]);
  assertEquals(index.files, ["model-2-of-2.safetensors", "model-1-of-2.safetensors"]);
});

Deno.test("parseShardIndex() accepts an index without metadata, and any file in the folder or below", () => {
  for (
    const json of [
      '{"weight_map":{}}',
      '{"weight_map":{},"metadata":null}',
      '{"weight_map":{},"metadata":{}}',
      '{"metadata":{"total_size":NaN,"x":[-Infinity,1e999],"total_size":2},"weight_map":{},"metadata":1}',
    ]
  ) {
    assertEquals(parse(json), { weightMap: new Map(), files: [] });
  }
  for (
    const file of [
      "model-00001-of-00004.safetensors",
      "model-1-of-61",
      "a b.safetensors",
      "..a",
      "a..b",
      "é😀",
      "__proto__",
    ]
  ) {
    assertEquals(parse(JSON.stringify({ weight_map: { t: file } })).files, [file]);
  }
  const below = parse('{"weight_map":{"a":"./m","b":"m","c":"sub/x","d":"./sub//./x"}}');
  assertEquals([...below.weightMap], [["a", "m"], ["b", "m"], ["c", "sub/x"], ["d", "sub/x"]]);
  assertEquals(below.files, ["m", "sub/x"]);
  assertEquals(parse('{"weight_map":{"__proto__":"f","constructor":"f"}}').weightMap.get("__proto__"), "f");
});

Deno.test("parseShardIndex() rejects file names that could leave the folder", () => {
  const names = [
    "../x",
    "a/../b",
    "a/..",
    "./../x",
    "/etc/passwd",
    "//host/x",
    "..",
    ".",
    "",
    "a/",
    "a/.",
    "a\\b",
    "..\\x",
    "sub/..\\..\\x",
    "C:x",
    "c:\\x",
    "\\\\host\\x",
    "a\0",
    "a\nb",
  ];
  for (const name of names) {
    const error = refusal(JSON.stringify({ weight_map: { good: "f", t: name } }));
    assertEquals(error.tensor, "t");
  }
  refusal(String.raw`{"weight_map":{"t":"\u002e\u002e\u002fx"}}`, "leads out");
});

Deno.test("parseShardIndex() rejects duplicates, wrong types and text that is not JSON", () => {
  refusal('{"weight_map":{"a":"f","a":"g"}}', "twice");
  assertEquals(parse('{"weight_map":{"a":"f","a":"./f"}}').files, ["f"]);
  refusal(String.raw`{"weight_map":{"a":"f","\u0061":"g"}}`, "twice");
  refusal('{"weight_map":{},"weight_map":{}}', "twice");
  refusal('{"metadata":{}}', "missing");
  for (const value of ["1", "null", "true", "[]", "{}", '["f"]']) refusal(`{"weight_map":{"a":${value}}}`);
  for (
    const json of [
      "",
      "[]",
      "null",
      '"x"',
      '{"weight_map":[]}',
      '{"weight_map":null}',
    ]
  ) {
    refusal(json);
  }
  for (
    const json of [
      '{"weight_map":{}',
      '{"weight_map":{},}',
      '{"weight_map":{}}x',
      '\ufeff{"weight_map":{}}',
      "{'weight_map':{}}",
    ]
  ) {
    refusal(json, "offset");
  }
  refusal(String.raw`{"weight_map":{"\ud800":"f"}}`, "surrogate");
  refusal(`{"weight_map":{},"x":${"[".repeat(200)}`, "deep");
  assertThrows(() => parseShardIndex(Uint8Array.of(0x7b, 0xff)), SafeTensorsError, "UTF-8");
});

Deno.test("parseShardIndex() names the real format of a file that is not an index", () => {
  refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull");
  refusal("<!DOCTYPE html>", "web page");
  refusal("Entry not found", '"Entry not found"');
  refusal('{"error":"Repository not found"}', "a server's response");
  refusal('{"weight_map":{"a":"f"', "offset 22");
  const gzip = Uint8Array.of(0x1f, 0x8b, 8, 8, 0xff, 0xfe, 1, 2);
  assertThrows(() => parseShardIndex(gzip), SafeTensorsError, "gzip");
});

Deno.test("parseShardIndex() enforces its limits", () => {
  const json = '{"weight_map":{}}';
  parse(json, { maxBytes: json.length });
  assertThrows(() => parse(json, { maxBytes: json.length - 1 }), SafeTensorsError, "limit");
});

Deno.test("writeShardIndex() writes the output of json.dumps(indent=2, sort_keys=True) and a newline", () => {
  // Made by Python 3.11 from the same map.
  const expected = String.raw`{
  "metadata": {
    "total_size": 9007199254740991
  },
  "weight_map": {
    "": "a.safetensors",
    "a.10": "b c.safetensors",
    "a.9": "a.safetensors",
    "\u007f\"\\/\n\u001f": "a.safetensors",
    "\uffff": "\u00e9.safetensors",
    "\ud83d\ude00": "a.safetensors"
  }
}
`;
  const map = new Map([
    ["\uffff", "é.safetensors"],
    ["😀", "a.safetensors"],
    ["a.9", "a.safetensors"],
    ["", "a.safetensors"],
    ['\x7f"\\/\n\x1f', "a.safetensors"],
    ["a.10", "b c.safetensors"],
  ]);
  assertEquals(new TextDecoder().decode(writeShardIndex(map, 2 ** 53 - 1)), expected);
  assertEquals(
    new TextDecoder().decode(writeShardIndex(new Map(), 0)),
    '{\n  "metadata": {\n    "total_size": 0\n  },\n  "weight_map": {}\n}\n',
  );
});

Deno.test("parseShardIndex() reads the output of writeShardIndex()", () => {
  const map = new Map(
    Array.from({ length: 500 }, (_, i) => [`t.${i}.é\n`, `model-${i % 7}.safetensors`] as const),
  );
  const index = parseShardIndex(writeShardIndex(map, 77));
  assertEquals(index.weightMap.size, map.size);
  for (const [tensor, file] of map) assertEquals(index.weightMap.get(tensor), file);
  assertEquals(index.files.length, 7);
});

Deno.test("writeShardIndex() rejects names that parseShardIndex() rejects", () => {
  for (const [tensor, file] of [["a", "../x"], ["a", ""], ["a\ud800", "f"], ["a", "f\udc00"]] as const) {
    const error = assertThrows(() => writeShardIndex(new Map([[tensor, file]]), 0), SafeTensorsError);
    assertEquals([error.code, error.tensor], ["InvalidIndex", tensor]);
  }
  for (const size of [-1, 1.5, NaN, 2 ** 53]) {
    assertThrows(() => writeShardIndex(new Map(), size), RangeError);
  }
});
