/**
 * Programs of the documentation: how the tests check and run them.
 */
import { assert } from "@std/assert";
import { type Block, read, ROOT } from "./pages.ts";

/**
 * Options with which a program finds the package, as in a new project of a user, which does not have the settings of
 * this repository. The import map is written to the folder.
 */
export async function importOptions(folder: string): Promise<string[]> {
  const { exports } = JSON.parse(read("deno.json")) as { exports: Record<string, string> };
  const imports = Object.fromEntries(
    Object.entries(exports).map((
      [entry, path],
    ) => [`@x/fastsafetensors${entry.slice(1)}`, `file://${ROOT}${path}`]),
  );
  await Deno.writeTextFile(`${folder}/imports.json`, JSON.stringify({ imports }));
  return ["--no-config", "--import-map", `${folder}/imports.json`];
}

/** Checks the types of programs, all at once, because each check takes seconds. */
export async function checkTypes(folder: string, blocks: readonly Block[]): Promise<void> {
  const paths = blocks.map(({ place }) => `${folder}/${place.replaceAll(/[^\w.]/g, "-")}.ts`);
  for (const [index, path] of paths.entries()) await Deno.writeTextFile(path, blocks[index]!.text);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["check", "--quiet", ...await importOptions(folder), ...paths],
    env: { NO_COLOR: "1" },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

/** Writes a program to a folder; its command line, to be run in that folder. */
export async function commandLine(folder: string, text: string, args: readonly string[] = []) {
  await Deno.writeTextFile(`${folder}/program.ts`, text);
  return ["run", "-A", "--no-check", ...await importOptions(folder), `${folder}/program.ts`, ...args];
}
