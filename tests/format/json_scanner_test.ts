import { assertEquals, assertThrows } from "@std/assert";
import { ascii, JsonScanner, NULL } from "../../src/format/json_scanner.ts";

function scan(text: string): JsonScanner {
  return new JsonScanner(new TextEncoder().encode(text), (detail, position) => {
    throw new SyntaxError(`${detail} at ${position}`);
  });
}

/** Skips a whole document. */
function skip(text: string): void {
  const scanner = scan(text);
  scanner.skip();
  scanner.end();
}

const VALUES = [
  ...[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "1.5",
    "-0.0",
    "1e5",
    "1E+5",
    "1e-5",
    "0e0",
    "0.0e-0",
  ],
  ...["1e308", "1e-99999", "0e99999", "0.000001e310", "9".repeat(308), `0.${"0".repeat(400)}1`],
  ...['""', '"a"', '"é😀\u2028\x7f"', String.raw`"\"\\\/\b\f\n\r\t\u0000\uFFFF\ud83d\ude00"`],
  ...["[]", "[ ]", "[1]", "[1,2 , 3]", "{}", "{ }", '{"a":1}', '{"a":1,"a":2 , "":[]}', " \t\r\n[\n]\n"],
  "[".repeat(127) + "]".repeat(127),
];

const FLAWED = [
  ...[
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-",
    "+1",
    "01",
    "-01",
    ".5",
    "1.",
    "1.e5",
    "1e",
    "1e+",
    "0x1",
  ],
  ...["1e309", "-1e309", "1.8e308", "1".repeat(310), `${"1".repeat(200)}e200`],
  ...[
    '"',
    '"a',
    "'a'",
    '"\n"',
    '"\x00"',
    String.raw`"\x"`,
    String.raw`"\u12"`,
    String.raw`"\u12g4"`,
    String.raw`"\U0041"`,
  ],
  ...[
    String.raw`"\ud800"`,
    String.raw`"\udc00"`,
    String.raw`"\ud800\ud800"`,
    String.raw`"\ud800x"`,
    String.raw`"\ud800\n"`,
  ],
  ...[
    "[",
    "[1",
    "[1,]",
    "[,1]",
    "[1 2]",
    "]",
    "{",
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,}',
    "{,}",
    "{1:2}",
    '{"a" 1}',
  ],
  ...["1 2", "[]]", "{}{}", "/**/1", "1//", "\ufeff1", "\v1", "\u00a01", "1\0", "[1)"],
  "[".repeat(128) + "]".repeat(128),
];

Deno.test("JsonScanner.skip() accepts every valid JSON value", () => {
  for (const text of VALUES) {
    skip(text);
    JSON.parse(text);
  }
});

Deno.test("JsonScanner.skip() rejects invalid JSON, lone surrogates, numbers out of range and deep nesting", () => {
  for (const text of FLAWED) assertThrows(() => skip(text), SyntaxError, " at ", JSON.stringify(text));
});

Deno.test("JsonScanner.u64() is exact and accepts only plain digits below 2^64", () => {
  const read = (text: string) => scan(text).u64();
  assertEquals(read("0"), 0);
  assertEquals(read(" 12,"), 12);
  assertEquals(read("999999999999999"), 999999999999999);
  assertEquals(read("9007199254740991"), 9007199254740991);
  assertEquals(read("9007199254740993"), 9007199254740993n);
  assertEquals(read("18446744073709551615"), 18446744073709551615n);
  for (
    const text of [
      "18446744073709551616",
      "99999999999999999999999",
      "1".repeat(1000),
      "00",
      "01",
      "-1",
      "-0",
      "+1",
    ]
  ) {
    assertThrows(() => read(text), SyntaxError);
  }
  for (const text of ["1.0", "1e0", "1E2", '"1"', "true", "null", "[1]", "", ".1"]) {
    assertThrows(() => read(text), SyntaxError);
  }
});

Deno.test("JsonScanner.text() decodes across windows, for any script", () => {
  const texts: string[] = [];
  for (let i = 0; i < 4000; i++) {
    const filler = ["x", "é", "€", "😀", "ab😀c"][i % 5]!.repeat(i % 37);
    texts.push(`${i}${filler}`, `plain ascii ${i}`);
  }
  texts.push("y".repeat(70_000), "é".repeat(70_000), "", "end");
  const scanner = scan(JSON.stringify(texts));
  const found: string[] = [];
  for (let more = scanner.beginArray(); more; more = scanner.nextElement()) {
    scanner.string();
    found.push(scanner.text());
  }
  assertEquals(found, texts);
});

Deno.test("JsonScanner.text() decodes escapes", () => {
  const texts = ['"', "\\", "\n\t\b\f\r/", "\0", "é\n", "😀\n", "\u2028\u0001", "a\\u0041"];
  const escape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const escaped = texts.map((text) => `"${text.split("").map(escape).join("")}"`);
  const scanner = scan(`[${[...escaped, ...texts.map((text) => JSON.stringify(text))]}]`);
  const found: string[] = [];
  for (let more = scanner.beginArray(); more; more = scanner.nextElement()) {
    scanner.string();
    found.push(scanner.text());
  }
  assertEquals(found, [...texts, ...texts]);
});

Deno.test("JsonScanner.textIs() compares the text, not its spelling", () => {
  const is = (json: string, expected: string) => {
    const scanner = scan(json);
    scanner.string();
    return scanner.textIs(ascii(expected));
  };
  assertEquals(is('"dtype"', "dtype"), true);
  assertEquals(is(String.raw`"\u0064type"`, "dtype"), true);
  assertEquals(is(String.raw`"\u0064\u0074\u0079\u0070\u0065"`, "dtype"), true);
  assertEquals(is('"dtypf"', "dtype"), false);
  assertEquals(is('"dtyp"', "dtype"), false);
  assertEquals(is(String.raw`"\u0064typ"`, "dtype"), false);
  assertEquals(is(`"${"\\u0064".repeat(50)}"`, "dtype"), false);
});

Deno.test("JsonScanner.skip() accepts Python's numbers by an option", () => {
  const fail = (detail: string): never => {
    throw new SyntaxError(detail);
  };
  for (const value of ["NaN", "Infinity", "-Infinity", "1e999", "[NaN, -1e400]"]) {
    assertThrows(() => new JsonScanner(ascii(value), fail).skip(), SyntaxError);
    const scanner = new JsonScanner(ascii(value), fail, { anyNumber: true });
    scanner.skip();
    scanner.end();
  }
  for (const value of ["nan", "-NaN", "Inf", "+1", "01", "1e"]) {
    assertThrows(() => new JsonScanner(ascii(value), fail, { anyNumber: true }).skip(), SyntaxError);
  }
});

Deno.test("JsonScanner.literal() reads the literal if it is next", () => {
  const scanner = scan("  null ");
  assertEquals(scanner.literal(ascii("true")), false);
  assertEquals(scanner.literal(NULL), true);
  scanner.end();
});

Deno.test("JsonScanner reports the expected token, the found token and the position", () => {
  assertThrows(() => skip('{"a" 1}'), SyntaxError, '":" expected, "1" found at 5');
  assertThrows(() => skip("[1"), SyntaxError, '"," or "]" expected, the end found at 2');
  assertThrows(() => skip("[\0]"), SyntaxError, "a value expected, byte 0x00 found at 1");
});
