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
  ["src/three_fs", "src/ranks", "src/group"],
  ["src/deno"],
  ["src/save", "src/pytorch"],
  ["src/compat", "src/doctor"],
  ["src/cli"],
];

/** What a file imports, as paths of the repository. */
function imports(path: string, text: string): string[] {
  return [...text.matchAll(/\bfrom "(\.[^"]+)"|\bimport\("(\.[^"]+)"/g)]
    .map(([, one, other]) => new URL(one ?? other!, `file:///${path}`).pathname.slice(1));
}

const code = sources(["src", "ffi"], [".ts"]);

/** What imports a folder below its own. */
const EXCEPTIONS: readonly string[] = [
  "ffi/group_call.ts: src/group/call_record.ts",
  "ffi/mpi.ts: src/group/call_record.ts",
  "ffi/nccl.ts: src/group/call_record.ts",
];

/** The line of ORDER that a file belongs to; -1 for what is no folder of it. */
function level(path: string): number {
  return ORDER.findIndex((folders) => folders.some((folder) => path.startsWith(`${folder}/`)));
}

Deno.test("no folder imports one to its right", () => {
  const strangers = code.entries().flatMap(([path, text]) =>
    imports(path, text).filter((target) => level(target) > level(path)).map((target) => `${path}: ${target}`)
  ).toArray();
  assertEquals(strangers.sort(), [...EXCEPTIONS].sort());
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

/** What few programs need: devices other than the CPU, several ranks, 3FS, other formats, the commands. */
const IMPORTED_WHEN_ASKED_FOR =
  /^src\/(?:device\/(?:cuda\/(?:device|memory|run)|webgpu\/(?!tensor))|ranks\/|group\/|three_fs\/(?:file|reader|range_reader)|pytorch\/|compat\/|doctor\/|cli\/)|^ffi\/(?:mpi|nccl|cuda_load|cuda_tensor|dlpack_)/;

Deno.test("a program that imports the package does not load what few programs need", async () => {
  const modules = await modulesOf("mod.ts");
  assertEquals([...modules].filter((module) => IMPORTED_WHEN_ASKED_FOR.test(module)), []);
});
