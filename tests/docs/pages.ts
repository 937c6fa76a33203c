/**
 * The documentation as the tests read it: pages, their headings, code blocks and tables.
 */

/** The repository. */
export const ROOT = new URL("../../", import.meta.url).pathname;

/** The page whose programs recipes_test.ts runs. */
export const RECIPES = "docs/recipes.md";

/** A block of code. */
export interface Block {
  /** The page and line, for messages. */
  readonly place: string;
  /** The word after the backticks: "ts", "ts ignore", "sh". */
  readonly kind: string;
  /** Its lines. */
  readonly text: string;
}

/** A page of the documentation. */
export interface Page {
  /** Below the repository. */
  readonly path: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** The text without its blocks of code. */
  readonly prose: string;
}

/** All pages that people read. */
export const PAGES: readonly Page[] = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  ...[...Deno.readDirSync(`${ROOT}docs`)].map(({ name }) => `docs/${name}`).filter((path) =>
    path.endsWith(".md")
  ).sort(),
].map(readPage);

/** One of them. */
export function page(path: string): Page {
  return PAGES.find((each) => each.path === path)!;
}

/** Text of a file of the repository. */
export function read(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}

/** The section of a page under a heading, up to the next of the same or a higher level. */
export function section(path: string, heading: string): string {
  const lines = page(path).text.split("\n");
  const start = lines.findIndex((line) => line.replace(/^#+ /, "") === heading && line.startsWith("#"));
  if (start < 0) throw new Error(`"${path}" has no heading "${heading}"`);
  const level = /^#+/.exec(lines[start]!)![0].length;
  const length = lines.slice(start + 1).findIndex((line) =>
    /^#+ /.test(line) && /^#+/.exec(line)![0].length <= level
  );
  return lines.slice(start, length < 0 ? undefined : start + 1 + length).join("\n");
}

/** The first cells, in backticks, of the tables in a section. */
export function firstCells(path: string, heading: string): string[] {
  return [...section(path, heading).matchAll(/^\| `([^`]+)`/gm)].map(([, cell]) => cell!);
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchors({ prose }: Page): string[] {
  return [...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replace(/[^\p{L}\p{N}\- ]/gu, "").replaceAll(" ", "-")
  );
}

/** Every source file below some folders: path → text. */
export function sources(folders: readonly string[], suffixes: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (folder: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(ROOT + folder)) {
      const path = `${folder}/${name}`;
      if (isDirectory) walk(path);
      else if (suffixes.some((suffix) => name.endsWith(suffix))) found.set(path, read(path));
    }
  };
  folders.forEach(walk);
  return found;
}

function readPage(path: string): Page {
  const text = read(path);
  const blocks: Block[] = [];
  const prose: string[] = [];
  let open: { kind: string; line: number; lines: string[] } | null = null;
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^```(.*)$/.exec(line);
    if (!fence) (open?.lines ?? prose).push(line);
    else if (!open) open = { kind: fence[1]!, line: index + 1, lines: [] };
    else {
      blocks.push({ place: `${path}:${open.line}`, kind: open.kind, text: open.lines.join("\n") });
      open = null;
    }
  }
  return { path, text, blocks, prose: prose.join("\n") };
}
