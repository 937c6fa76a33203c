import { assert, assertEquals } from "@std/assert";
import { PLATFORMS } from "../ffi/prebuilt.ts";

const read = (path: string) => Deno.readTextFileSync(new URL(`../${path}`, import.meta.url));
const FOLDER = ".github/workflows";
const NAMES = [...Deno.readDirSync(new URL(`../${FOLDER}`, import.meta.url))].map(({ name }) => name).sort();

Deno.test("the workflows run tasks that exist, with the Deno that .ci/run tests with", () => {
  assertEquals(NAMES, ["ci.yml", "release.yml"]);
  const { tasks } = JSON.parse(read("deno.json"));
  const version = read(".ci/run").match(/deno@([\d.]+)/)![1];
  for (const name of NAMES) {
    const text = read(`${FOLDER}/${name}`);
    for (const [, task] of text.matchAll(/deno task (\S+)/g)) assert(task! in tasks, `${name}: ${task}`);
    assertEquals(text.match(/DENO_VERSION: "(.*)"/)![1], version, name);
  }
});

Deno.test("the tests against JSR's packages remove every stand-in", () => {
  const imports: Readonly<Record<string, string>> = JSON.parse(read("deno.json")).imports;
  const standIns = Object.entries(imports).filter(([, target]) => target.startsWith("./links/"));
  const folders = [...Deno.readDirSync(new URL("../links", import.meta.url))];
  assertEquals(standIns.length, folders.length);
  const text = read(`${FOLDER}/ci.yml`);
  for (const [name, target] of standIns) {
    const original = name.replace(/^(@std\/[a-z]+)/, "jsr:$1@^1");
    assert(text.includes(`-e 's|"${target}"|"${original}"|'`), name);
  }
});

Deno.test("a release is tested, contains a library for every platform, and has provenance", () => {
  const text = read(`${FOLDER}/release.yml`);
  const names = text.match(/for name in (.*); do/)![1]!.split(" ");
  assertEquals(names, ["manifest.json", ...PLATFORMS.map((platform) => `${platform}.txt`)]);
  const publish = text.slice(text.indexOf("\n  publish:"));
  assert(publish.includes("needs: [test, build]") && publish.includes("id-token: write"), publish);
});
