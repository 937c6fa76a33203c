import { assertEquals } from "@std/assert";

const read = (path: string) => Deno.readTextFileSync(new URL(`../${path}`, import.meta.url));

/** The names of the options that an interface declares. */
function optionsOf(path: string, name: string): string[] {
  const source = read(path);
  const start = source.indexOf(`export interface ${name}`);
  const body = source.slice(start, source.indexOf("\n}", start));
  return [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, option]) => option!);
}

/** The first cells of the table under a heading. */
function firstCells(markdown: string, heading: string): string[] {
  const section = markdown.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`))!;
  return [...section.matchAll(/^\| `(\w+)`/gm)].map(([, cell]) => cell!);
}

Deno.test("README.md has every option of fastsafeOpen and of saveFile", () => {
  const readme = read("README.md");
  assertEquals(firstCells(readme, "Options"), optionsOf("src/options.ts", "OpenOptions"));
  assertEquals(firstCells(readme, "Saving"), optionsOf("src/save.ts", "SaveOptions"));
});

Deno.test("README.md names every task of deno.json that a user needs", () => {
  const tasks = Object.keys(JSON.parse(read("deno.json")).tasks);
  const readme = read("README.md");
  assertEquals(tasks.filter((task) => !new RegExp(`task ${task}\\b`).test(readme)), []);
});

Deno.test("README.md refers to files that are there", () => {
  for (const [, path] of read("README.md").matchAll(/\]\((?!https:)([^)#]+)\)/g)) {
    Deno.statSync(new URL(`../${path}`, import.meta.url));
  }
});
