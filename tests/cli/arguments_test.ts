import { assertEquals, assertThrows } from "@std/assert";
import { parseArguments, UsageError } from "../../src/cli/arguments.ts";

const KINDS = { fast: "flag", dtype: "text", names: "list", threads: "text", size: "text" } as const;

Deno.test("parseArguments() separates files from options", () => {
  const args = parseArguments(["a", "--dtype", "F32", "007", "--fast", "--", "--b"], KINDS);
  assertEquals(args.inputs, ["a", "007", "--b"]);
  assertEquals(args.text("dtype"), "F32");
  assertEquals([args.flag("fast"), args.flag("json"), args.flag("help")], [true, false, false]);
});

Deno.test("parseArguments() collects lists, and accepts a text once", () => {
  const args = parseArguments(["--names=a*", "--names", "b", "--dtype=F32", "--dtype=BF16", "-h"], KINDS);
  assertEquals(args.list("names"), ["a*", "b"]);
  assertThrows(() => args.text("dtype"), UsageError, "--dtype can be given once, got it 2 times");
  assertEquals(args.flag("help"), true);
  assertEquals(args.text("threads"), undefined);
});

Deno.test("parseArguments() rejects unknown options and missing values", () => {
  assertThrows(() => parseArguments(["--slow"], KINDS), UsageError, "There is no option --slow");
  assertThrows(() => parseArguments(["--slow=1"], KINDS), UsageError, "There is no option --slow");
  for (const args of [["a", "--dtype"], ["--dtype="], ["--dtype", "--fast"], ["--dtype", "--", "a"]]) {
    assertThrows(() => parseArguments(args, KINDS), UsageError, "--dtype needs a value");
  }
  assertThrows(() => parseArguments(["--fast=no"], KINDS), UsageError, '--fast takes no value, got "no"');
  for (const name of ["--no-fast", "-x", "-o", "--toString", "--__proto__"]) {
    assertThrows(() => parseArguments([name], KINDS), UsageError, `There is no option ${name}`);
  }
});

Deno.test("parseArguments() accepts joined values that begin with a dash, letters, and a single dash", () => {
  const args = parseArguments(["--dtype=-1", "-", "-o", "file", "-o", "other"], { ...KINDS, output: "text" });
  assertEquals([args.text("dtype"), args.inputs, args.list("output")], ["-1", ["-"], ["file", "other"]]);
});

Deno.test("Arguments.count() accepts whole numbers from 1 on", () => {
  const count = (text: string) => parseArguments([`--threads=${text}`], KINDS).count("threads");
  assertEquals(count("16"), 16);
  for (const text of ["0", "-1", "1.5", "1e3", "two", "99999999999999999999"]) {
    assertThrows(() => count(text), UsageError, `--threads must be a whole number from 1 on, got "${text}"`);
  }
});

Deno.test("Arguments.bytes() understands units", () => {
  const bytes = (text: string) => parseArguments([`--size=${text}`], KINDS).bytes("size");
  assertEquals(["1234", "1kB", "500MB", "1GiB", "2TiB"].map(bytes), [1234, 1e3, 5e8, 2 ** 30, 2 ** 41]);
  for (const text of ["0", "1GB2", "1.5GB", "GB", "1gb", "9000TiB"]) {
    assertThrows(() => bytes(text), UsageError, "--size must be a number of bytes");
  }
});
