import { assertEquals } from "@std/assert";
import { addGcov, addLcov, dropAvx512, gaps, type Lines, share } from "./lines.ts";

Deno.test("addLcov() adds the counts of several runs of a file, and skips other files", () => {
  const lines: Lines = new Map();
  const record = (path: string, ...counts: string[]) =>
    ["TN:", `SF:${path}`, "FN:1,f", ...counts.map((count) => `DA:${count}`), "LH:9", "end_of_record", ""]
      .join("\n");
  addLcov(lines, record("/r/src/a.ts", "1,2", "2,0", "9,0"), "/r/");
  addLcov(lines, record("/r/src/a.ts", "1,0", "2,5") + record("/elsewhere/b.ts", "1,1"), "/r/");
  assertEquals(lines, new Map([["src/a.ts", new Map([[1, 2], [2, 5], [9, 0]])]]));
});

Deno.test("addGcov() recognizes the sources of native/ in any build folder", () => {
  const lines: Lines = new Map();
  const document = (folder: string, ...files: [string, [line: number, count: number][]][]) =>
    JSON.stringify({
      format_version: "1",
      current_working_directory: folder,
      files: files.map(([file, counts]) => ({
        file,
        lines: counts.map(([line_number, count]) => ({ line_number, count, branches: [] })),
      })),
    });
  const printed = [
    document("/r/coverage/cache/build-1", ["core/lane.c", [[7, 0], [8, 3]]], ["./cuda/kernels/x.h", [[
      1,
      1,
    ]]]),
    document("/r/coverage/cache/build-1", ["cuda/lane.c", [[7, 9]]], ["/usr/include/stdio.h", [[1, 1]]]),
    document("/tmp/x", ["/r/native/core/lane.c", [[7, 1]]], ["/r/native/cuda/kernels/x.h", [[1, 4]]]),
    document("/tmp/x", ["core.c", [[1, 1]]], ["lane.c", [[1, 1]]]),
    document("/r", ["native/core/lane.c", [[8, 2]]], ["tests/sim/lane.c", [[7, 100]]]),
    document("/r/tests/sim", ["cuda/lane.c", [[9, 0]]]), // a file of a stand-in with the same name
    document("/tmp/copy/tests/sim/shared", ["../cuda/lane.c", [[9, 0]]]), // the same in a copy
    document("/tmp/build", ["tests/native/added/core/lane.c", [[9, 0]]]), // a part that tests add to a source
    "",
  ].join("\n");
  addGcov(lines, printed, new Set(["core/lane.c", "cuda/lane.c", "cuda/kernels/x.h"]), "/r/");
  assertEquals(
    lines,
    new Map([
      ["native/core/lane.c", new Map([[7, 1], [8, 5]])],
      ["native/cuda/kernels/x.h", new Map([[1, 5]])],
      ["native/cuda/lane.c", new Map([[7, 9]])],
    ]),
  );
});

Deno.test("share() and gaps() return the lines that ran, and those that did not", () => {
  const lines: Lines = new Map([
    ["src/a.ts", new Map([[1, 1], [2, 0], [3, 0], [7, 4], [8, 0], [12, 0], [13, 1], [20, 0]])],
    ["src/b.ts", new Map([[1, 1], [2, 1]])],
    ["srcs/c.ts", new Map([[1, 0]])],
  ]);
  assertEquals(share(lines, "src"), { lines: 10, ran: 5, percent: 50 });
  assertEquals(share(lines, "ffi"), { lines: 0, ran: 0, percent: 100 });
  assertEquals(gaps(lines.get("src/a.ts")!), "2–3, 8–12, 20");
});

Deno.test("dropAvx512() drops the lines of functions for AVX-512 only", () => {
  const text = [
    "AVX2 static int a(void) {", // 1
    "  return 1;",
    "}",
    "AVX512 static int b(void) {", // 4
    "  if (1) {",
    "  }",
    "}",
    '__attribute__((target("avx512f"))) static int c(void) {', // 8
    "}",
    "int d(void) {", // 10
    "}",
  ].join("\n");
  const lines: Lines = new Map([["native/x.c", new Map([1, 2, 4, 5, 7, 8, 9, 10].map((line) => [line, 0]))]]);
  assertEquals(dropAvx512(lines, { "x.c": text, "y.c": text }), 5);
  assertEquals([...lines.get("native/x.c")!.keys()], [1, 2, 10]);
});
