import { assertEquals } from "@std/assert";

const read = (path: string) => Deno.readTextFileSync(new URL(`../${path}`, import.meta.url));

/** The first cells of the table under a heading. */
function firstCells(markdown: string, heading: string): string[] {
  const section = markdown.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`))!;
  return [...section.matchAll(/^\| `(\w+)`/gm)].map(([, cell]) => cell!);
}

Deno.test("README.md has every option of fastsafeOpen", () => {
  const source = read("src/options.ts");
  const body = source.slice(
    source.indexOf("export interface OpenOptions"),
    source.indexOf("\n}", source.indexOf("export interface OpenOptions")),
  );
  const options = [...body.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name!);
  assertEquals(firstCells(read("README.md"), "Options"), options);
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
