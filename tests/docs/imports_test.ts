import { assertEquals } from "@std/assert";
import { modulesOf } from "../support/graph.ts";
import { sources } from "./pages.ts";

/** The folders, each of which imports only those in lines above its own, or one way within its line. */
const ORDER: readonly (readonly string[])[] = [
  ["src/base"],
  ["ffi"],
  ["src/format"],
  ["src/files"],
  ["src/load"],
  ["src/device"],
  ["src/model"],
  ["src/three_fs", "src/ranks"],
  ["src/deno"],
  ["src/save", "src/pytorch"],
  ["src/compat", "src/doctor"],
  ["src/cli"],
];

/** What a file imports, as paths of the repository. */
function imports(path: string, text: string): string[] {
  return [...text.matchAll(/\bfrom "(\.[^"]+)"|\bimport\(?\s*"(\.[^"]+)"/g)]
    .map(([, one, other]) => new URL(one ?? other!, `file:///${path}`).pathname.slice(1));
}

const code = sources(["src", "ffi"], [".ts"]);

/** The line of ORDER that a file belongs to; -1 for what is no folder of it. */
function level(path: string): number {
  return ORDER.findIndex((folders) => folders.some((folder) => path.startsWith(`${folder}/`)));
}

Deno.test("no folder imports one to its right", () => {
  const strangers = code.entries().flatMap(([path, text]) =>
    imports(path, text).filter((target) => level(target) > level(path)).map((target) => `${path}: ${target}`)
  ).toArray();
  assertEquals(strangers, []);
});

/** Nodes that reach one another: each group of more than one, and each node that reaches itself. */
function cyclesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const reached = new Map<string, Set<string>>();
  for (const start of graph.keys()) {
    const seen = new Set<string>();
    const left = [...graph.get(start)!];
    for (let node; (node = left.pop()) !== undefined;) {
      if (seen.has(node)) continue;
      seen.add(node);
      left.push(...graph.get(node) ?? []);
    }
    reached.set(start, seen);
  }
  const cycles = new Set<string>();
  for (const [node, others] of reached) {
    if (!others.has(node)) continue;
    cycles.add([...others].filter((other) => reached.get(other)?.has(node)).sort().join(" "));
  }
  return [...cycles].map((cycle) => cycle.split(" "));
}

Deno.test("cyclesOf() finds a cycle of two, of three, and a node that reaches itself", () => {
  const graph = { a: ["b"], b: ["a", "c"], c: ["d"], d: ["e"], e: ["c"], f: ["f"], g: ["a", "h"], h: [] };
  assertEquals(cyclesOf(new Map(Object.entries(graph))), [["a", "b"], ["c", "d", "e"], ["f"]]);
});

Deno.test("no file of src and ffi imports one that imports it, by however many others", () => {
  assertEquals(cyclesOf(new Map(code.entries().map(([path, text]) => [path, imports(path, text)]))), []);
});

Deno.test("no two folders import each other", () => {
  const folderOf = (path: string) => path.split("/").slice(0, path.startsWith("src/") ? 2 : 1).join("/");
  const graph = new Map<string, string[]>();
  for (const [path, text] of code) {
    const folder = folderOf(path);
    const others = imports(path, text).map(folderOf).filter((other) => other !== folder);
    graph.set(folder, [...graph.get(folder) ?? [], ...others]);
  }
  assertEquals(cyclesOf(graph), []);
});

/** Files that run in browsers and other hosts too. */
function isPortable(path: string): boolean {
  return /^src\/(?:base|format|files|load|device|model)\//.test(path) &&
    !/^src\/(?:files\/native|load\/native|device\/cuda)\//.test(path);
}

/** A file's text without its comments. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[^]*?\*\//g, "").replace(/(?<![:"'`\\])\/\/.*/g, "");
}

/** What only Deno or Node has, and imports of what is not a module. */
const NOT_PORTABLE = /\bDeno\.\w+|"node:[^"]*"|\bwith \{ *type|\bassert \{ *type/g;

Deno.test("the portable part imports nothing but itself, and has no Deno, no node: and no import attribute", () => {
  const strangers = code.entries().filter(([path]) => isPortable(path)).flatMap(([path, text]) => [
    ...imports(path, text).filter((target) => !isPortable(target)).map((target) => `${path}: ${target}`),
    ...withoutComments(text).match(NOT_PORTABLE)?.map((found) => `${path}: ${found}`) ?? [],
  ]).toArray();
  assertEquals(strangers, []);
});

Deno.test("the search for what is not portable passes over comments, not over code", () => {
  const found = (text: string) => withoutComments(text).match(NOT_PORTABLE) ?? [];
  assertEquals(found("/** As Deno.open() does. */\nconst a = 1; // Deno.cwd()\n"), []);
  assertEquals(found('const url = "https://host/x"; Deno.cwd();'), ["Deno.cwd"]);
  assertEquals(found('import { x } from "node:os";'), ['"node:os"']);
  assertEquals(found('import c from "./a.c" with { type: "text" };'), ["with { type"]);
});

/** The text of a module outside of all braces. */
function outsideOfBraces(text: string): string {
  let depth = 0;
  return [...withoutComments(text)].filter((character) => {
    if (character === "{") depth++;
    if (character === "}") depth--;
    return depth === 0;
  }).join("");
}

// Modules are imported when they are asked for, several at once. Deno 2.9 can panic ("RefCell already borrowed") if one
// of them has to be awaited.
Deno.test("no module awaits anything while it is evaluated, except the command line", () => {
  const awaiting = code.entries().filter(([, text]) => /\bawait\b/.test(outsideOfBraces(text)));
  assertEquals(awaiting.map(([path]) => path).toArray(), ["src/cli/mod.ts"]);
});

Deno.test("only ffi/ opens libraries", () => {
  const places = code.entries().filter(([, text]) => text.includes("Deno.dlopen(")).map(([path]) => path);
  assertEquals(places.filter((path) => !path.startsWith("ffi/")).toArray(), []);
});

Deno.test("a device knows no file format's reader, and no file format knows a device", () => {
  const strangers = code.entries().filter(([path]) => path.startsWith("src/device/")).flatMap((
    [path, text],
  ) => imports(path, text).filter((target) => /header|shard_index|pytorch|catalog/.test(target))).toArray();
  assertEquals(strangers, []);
});

/** What few programs need: files on servers, devices other than the CPU, several ranks, 3FS, other formats, the commands. */
const IMPORTED_WHEN_ASKED_FOR =
  /^src\/(?:files\/(?:http|hub|s3|cache|native\/(?:cache|http|network)|remote)|deno\/(?:remote|fetch)|device\/(?:cuda\/(?:device|memory|run)|webgpu\/(?!tensor))|ranks\/|three_fs\/(?:file|reader|range_reader)|pytorch\/|compat\/|doctor\/|cli\/)|^ffi\/(?:mpi|nccl|cuda_load|cuda_tensor|dlpack_)/;

Deno.test("a program that imports the package does not load what few programs need", async () => {
  const modules = await modulesOf("mod.ts");
  assertEquals([...modules].filter((module) => IMPORTED_WHEN_ASKED_FOR.test(module)), []);
});

Deno.test("a program that imports the package loads at most 60 modules", async () => {
  assertEquals([...await modulesOf("mod.ts")].slice(60), []);
});
