import { modulesOf } from "../support/graph.ts";
import { assert, assertEquals } from "@std/assert";
import { SOURCES } from "../../ffi/sources.ts";
import { generate } from "../../native/tools/sources.ts";

const ROOT = new URL("../../", import.meta.url);

Deno.test("the generated files have every C source and header of native/, with its present text", async () => {
  for (const [path, text] of Object.entries(await generate())) {
    const is = await Deno.readTextFile(new URL(path, ROOT));
    assert(is === text, `native/ and ${path} differ: run "deno task build:sources"`);
  }
  // The library is built of all of them except those in tools/, which only a release needs.
  const native = new URL("native/", ROOT).pathname;
  const names = filesBelow(native).filter((name) => /\.[ch]$/.test(name) && !name.startsWith("tools/"));
  assertEquals(Object.keys(SOURCES).sort(), names.sort());
  for (const name of names) {
    assert(SOURCES[name] === await Deno.readTextFile(native + name), `the text of ${name}`);
  }
});

/** The paths of all files below a folder. */
function filesBelow(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(folder + prefix)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesBelow(folder, `${prefix}${name}/`) : [prefix + name]
  );
}

Deno.test("a program that imports the package loads C sources only to build the library", async () => {
  for (const entry of ["mod.ts", "ffi/build.ts"]) { // the latter finds the library that was built before
    const reached = await modulesOf(entry);
    assertEquals([...reached].filter((specifier) => !/^node:|\.ts$/.test(specifier)), [], entry);
    assert(!reached.has("ffi/sources.ts"), entry);
  }
});

Deno.test("SOURCES has every header that its files include", () => {
  for (const [name, text] of Object.entries(SOURCES)) {
    for (const [, included] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      assert(SOURCES[included!] !== undefined, `${name} includes "${included}"`);
    }
  }
});

/** Folder of native/ → the other folders whose internal header its files may include. */
const MAY_INCLUDE: Readonly<Record<string, readonly string[]>> = {
  cast: [],
  core: ["cast"],
  cuda: ["core", "cast"],
  net: ["core", "cast"],
  three_fs: ["cuda", "core", "cast"],
  ranks: ["cuda", "core", "cast"],
};

Deno.test("folders of native/ use each other only through internal headers, and without cycles", () => {
  for (const [name, text] of Object.entries(SOURCES)) {
    if (!name.includes("/")) continue; // headers of exported functions
    const folder = name.slice(0, name.indexOf("/"));
    for (const [, included] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      if (!included!.includes("/") || included!.startsWith(`${folder}/`)) continue;
      const headers = MAY_INCLUDE[folder]!.map((other) => `${other}/${other}.h`);
      assert(headers.includes(included!), `${name} includes "${included}"`);
    }
  }
});

Deno.test("native/ includes no header of a library that it finds at run time", () => {
  for (const [name, text] of Object.entries(SOURCES)) {
    for (const [, included] of text.matchAll(/^\s*#\s*include\s+<([^>]+)>/gm)) {
      assert(
        !/cuda|cufile|curl|nccl|mpi|3fs|usrbio|infiniband|numa|uring/.test(included!),
        `${name} includes <${included}>`,
      );
    }
  }
});
