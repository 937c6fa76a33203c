import { assert, assertEquals } from "@std/assert";
import { SOURCES } from "../../ffi/sources.ts";

const NATIVE = new URL("../../native/", import.meta.url);

/** Every C file and header below a folder, by its path in it. */
async function* cFiles(folder: URL, prefix = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* cFiles(new URL(`${name}/`, folder), `${prefix}${name}/`);
    else if (/\.[ch]$/.test(name)) yield prefix + name;
  }
}

Deno.test("SOURCES has every C file and header of native/, as it is there", async () => {
  const names = await Array.fromAsync(cFiles(NATIVE));
  assertEquals(Object.keys(SOURCES).sort(), names.sort());
  for (const name of names) {
    assertEquals(SOURCES[name], await Deno.readTextFile(new URL(name, NATIVE)), name);
  }
});

Deno.test("SOURCES has every header that its files include", () => {
  for (const [name, text] of Object.entries(SOURCES)) {
    const folder = name.includes("/") ? name.slice(0, name.lastIndexOf("/") + 1) : "";
    for (const [, included] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      assert(SOURCES[included!] ?? SOURCES[folder + included!], `${name} includes "${included}"`);
    }
  }
});

Deno.test("native/ includes no header of a library that it finds at run time", () => {
  for (const [name, text] of Object.entries(SOURCES)) {
    for (const [, included] of text.matchAll(/^\s*#\s*include\s+<([^>]+)>/gm)) {
      assert(
        !/cuda|cufile|nccl|mpi|3fs|usrbio|infiniband|numa|uring/.test(included!),
        `${name} includes <${included}>`,
      );
    }
  }
});
