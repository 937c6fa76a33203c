import { assertEquals } from "@std/assert";
import { sources } from "./pages.ts";

/** What every room may import: errors, the checks of arguments with the words for them, paths, the environment and turns. */
const BASE = [
  "src/base/errors.ts",
  "src/files/native/errno.ts",
  "src/base/check.ts",
  "src/base/closest_word.ts",
  "src/base/paths.ts",
  "ffi/variables.ts",
  "src/base/turn.ts",
];

/** Room → the rooms that it may import from, besides itself and the base. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "src/format": [],
  "src/plan": ["src/format"],
  "src/source": ["src/base/text.ts", "src/lanes", "src/usrbio", "ffi"],
  "src/cli": [
    "mod.ts",
    "deno.json",
    "src/base/dtype.ts",
    "src/base/text.ts",
    "src/files/inputs.ts",
    "src/save/repair.ts",
  ],
};

/** What a file imports, as paths of the repository. */
function imports(path: string, text: string): string[] {
  return [...text.matchAll(/\bfrom "(\.[^"]+)"|\bimport\("(\.[^"]+)"/g)]
    .map(([, one, other]) => new URL(one ?? other!, `file:///${path}`).pathname.slice(1));
}

const code = sources(["src", "ffi"], [".ts"]);

for (const [room, allowed] of Object.entries(MAY_IMPORT)) {
  Deno.test(`${room} imports only what it may`, () => {
    const strangers = code.entries().filter(([path]) => path.startsWith(`${room}/`)).flatMap(([path, text]) =>
      imports(path, text)
        .filter((target) => ![room, ...allowed, ...BASE].some((place) => target.startsWith(place)))
        .map((target) => `${path}: ${target}`)
    ).toArray();
    assertEquals(strangers, []);
  });
}

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
