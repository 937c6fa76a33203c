/**
 * `deno task build:sources`: writes what the package knows of the C sources without reading a folder. Run it after every
 * change of a file in `native/`.
 *
 * - `ffi/sources.ts` imports each of them as text, so that a package that came over https can build them too.
 * - `ffi/recipe.ts` has their hash, by which a library that was built before is found without loading them.
 */
import { hashOf } from "../../ffi/build.ts";

const ROOT = new URL("../../", import.meta.url);
const NOTE = "// `deno task build:sources` writes this file: do not edit it.\n";

/** Every C file and header below a folder, by its path there, but for what only a release needs. */
async function* cFiles(folder: URL, prefix = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (prefix + name === "tools") continue;
    if (isDirectory) yield* cFiles(new URL(`${name}/`, folder), `${prefix}${name}/`);
    else if (/\.[ch]$/.test(name)) yield prefix + name;
  }
}

/** "core/plan.c" as a name in TypeScript: "corePlanC". */
function identifier(name: string): string {
  return name.replace(/[^A-Za-z0-9]+([A-Za-z0-9])/g, (_, letter) => letter.toUpperCase());
}

/** What both files should have now: path in the repository → text. */
export async function generate(): Promise<Readonly<Record<string, string>>> {
  const native = new URL("native/", ROOT);
  const names = (await Array.fromAsync(cFiles(native))).sort();
  const texts = await Promise.all(names.map((name) => Deno.readTextFile(new URL(name, native))));
  const hash = await hashOf(Object.fromEntries(names.map((name, index) => [name, texts[index]!])));
  const imports = names.map((name) =>
    `import ${identifier(name)} from "../native/${name}" with { type: "text" };\n`
  );
  const entries = names.map((name) => `  "${name}": ${identifier(name)},\n`);
  return {
    "ffi/sources.ts": `${NOTE}${imports.join("")}
/** Path of a C source or header below native/ → its text. */
export const SOURCES: Readonly<Record<string, string>> = {
${entries.join("")}};
`,
    "ffi/recipe.ts": `${NOTE}
/** SHA-256 of \`SOURCES\`, as \`hashOf\` in build.ts makes it. */
export const SOURCES_HASH = "${hash}";
`,
  };
}

if (import.meta.main) {
  for (const [path, text] of Object.entries(await generate())) {
    await Deno.writeTextFile(new URL(path, ROOT), text);
  }
}
