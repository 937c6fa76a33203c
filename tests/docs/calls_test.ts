/**
 * The lists of calls in docs/architecture.md: against the source, and against what a load runs.
 */
import { assert, assertEquals } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { runChild } from "../support/child.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { read, ROOT, section } from "./pages.ts";

const PAGE = "docs/architecture.md";

/** One line of a list. */
interface Call {
  /** `function`, or `Class.method`. */
  readonly name: string;
  /** The file that has it. */
  readonly path: string;
}

/** The lists, by their headings. */
const LISTS = new Map(
  [...section(PAGE, "The calls").matchAll(/^### (.+)$/gm)].map(([, heading]) => {
    const lines = section(PAGE, heading!).matchAll(/^\d+\. `([\w.]+)` in `([\w/.]+)`/gm);
    return [heading!, [...lines].map(([, name, path]): Call => ({ name: name!, path: path! }))];
  }),
);

/** Whether a file declares a function, or a class with a method. */
function declares(path: string, name: string): boolean {
  const text = read(path);
  const [type, method] = name.split(".");
  if (method === undefined) return new RegExp(`^(export )?(async )?function\\*? ${name}\\b`, "m").test(text);
  const start = text.search(new RegExp(`^(export )?class ${type}\\b`, "m"));
  if (start < 0) return false;
  const body = text.slice(start, text.indexOf("\n}", start));
  return new RegExp(`^  (static )?(async )?${method}[(<]`, "m").test(body);
}

Deno.test("the lists of calls are those of a load to each device, and of a save", () => {
  assertEquals([...LISTS.keys()].map((heading) => heading.replaceAll("`", "")), [
    "fastsafeOpen(path)",
    'device: "cuda"',
    'device: "webgpu"',
    "saveFile(tensors, path)",
  ]);
  for (const [heading, calls] of LISTS) assert(calls.length > 4, heading);
});

for (const [heading, calls] of LISTS) {
  Deno.test(`each function that is listed for ${heading} is in the file named`, () => {
    assertEquals(calls.filter(({ name, path }) => !declares(path, name)), []);
  });
}

/** What V8 says of a script. */
interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly {
    readonly functionName: string;
    readonly ranges: readonly { readonly count: number }[];
  }[];
}

/** The files of src/ whose functions a load has entered, and the names of these functions. */
async function enteredBy(library: string): Promise<Map<string, Set<string>>> {
  await using folder = await tempFolder();
  const path = `${folder.path}/model.safetensors`;
  await writeFile(path, [{ name: "x", dtype: "F32", shape: [1000] }]);
  const env: Record<string, string> = { FASTSAFETENSORS_LIB: library };
  for (const name of ["HOME", "DENO_DIR", "XDG_CACHE_HOME"]) {
    const value = Deno.env.get(name);
    if (value !== undefined) env[name] = value;
  }
  const counts = `${folder.path}/coverage`;
  env["DENO_COVERAGE_DIR"] = counts;
  const { code, stderr } = await runChild("load.ts", { flags: ["-A"], args: [path], env });
  assertEquals(code, 0, stderr);
  const entered = new Map<string, Set<string>>();
  for (const { name } of Deno.readDirSync(counts)) {
    if (!name.endsWith(".json")) continue;
    const { url, functions }: ScriptCoverage = JSON.parse(Deno.readTextFileSync(`${counts}/${name}`));
    if (!url.startsWith(`file://${ROOT}src/`)) continue;
    // A name in <> is V8's own, for what makes objects and classes; a file as a whole has none.
    const names = functions.filter(({ functionName, ranges }) =>
      /^[^<]/.test(functionName) && ranges[0]!.count > 0
    ).map(({ functionName }) => functionName);
    if (names.length > 0) entered.set(url.slice(`file://${ROOT}`.length), new Set(names));
  }
  return entered;
}

const library = await openLibrary();

suite("a load runs the calls that are listed", "native", library.shim ? null : library.reason, () => {
  Deno.test("a load enters each function that is listed, and no file that the list and its note do not name", async () => {
    const entered = await enteredBy((library as { path: string }).path);
    const [heading, calls] = LISTS.entries().next().value!;
    const missed = calls.filter(({ name, path }) => !entered.get(path)?.has(name.split(".").at(-1)!));
    assertEquals(missed, []);
    const named = new Set(calls.map(({ path }) => path));
    const note = section(PAGE, heading).split("\n\n").find((text) =>
      text.startsWith("These files help them")
    )!;
    let folder = "";
    for (const [, path] of note.matchAll(/`([\w/.]+)`/g)) {
      if (path!.endsWith("/")) folder = path!;
      else named.add(path!.includes("/") ? path! : folder + path!);
    }
    assertEquals([...entered.keys()].filter((path) => !named.has(path)).sort(), []);
    assertEquals([...named].filter((path) => !entered.has(path)).sort(), []);
  });
});
