import { assertEquals } from "@std/assert";
import { anchors, page, PAGES, ROOT } from "./pages.ts";

/** The fault of a link on a page; null if its target exists. */
function flaw(from: string, link: string): string | null {
  if (/^https?:/.test(link)) return null;
  const [path, anchor] = link.split("#") as [string, string?];
  const target = path === "" ? from : new URL(path, `file:///${from}`).pathname.slice(1);
  try {
    Deno.statSync(ROOT + target);
  } catch {
    return `${from}: there is no "${target}"`;
  }
  if (anchor === undefined) return null;
  return anchors(page(target)).includes(anchor) ? null : `${from}: "${target}" has no heading "#${anchor}"`;
}

Deno.test("every link in the documentation leads to a file or a heading that exists", () => {
  const flaws = PAGES.flatMap(({ path, prose }) =>
    [...prose.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(([, link, picture]) =>
      flaw(path, (link ?? picture)!)
    )
  );
  assertEquals(flaws.filter((each) => each !== null), []);
});

Deno.test("every picture in the documentation has an alternative text", () => {
  for (const { path, prose } of PAGES) assertEquals(prose.match(/!\[\]|<img(?![^>]*alt=)/), null, path);
});

Deno.test("every page in docs/ and every example is linked from the README", () => {
  const { text } = page("README.md");
  const names = [
    ...PAGES.map(({ path }) => path).filter((path) => path.startsWith("docs/")),
    ...[...Deno.readDirSync(`${ROOT}examples`)].map(({ name }) => `examples/${name}`),
  ];
  assertEquals(names.filter((name) => !text.includes(`(${name}`)), []);
});

Deno.test("README.md is short enough to be read in five minutes", () => {
  const lines = page("README.md").text.trimEnd().split("\n").length;
  assertEquals(lines <= 160, true, `${lines} lines, at most 160 expected`);
});

Deno.test("every page in docs/ opens with a sentence about its purpose", () => {
  const pages = PAGES.filter(({ path }) => path.startsWith("docs/"));
  assertEquals(
    pages.filter(({ text }) => !/^# .+\n\nThis page /.test(text)).map(({ path }) => path),
    [],
  );
});
