import { assertEquals, assertStringIncludes } from "@std/assert";
import type { HubRepo } from "../../src/files/cache/hub_layout.ts";
import { HubCache } from "../../src/files/native/cache/hub_cache.ts";
import { PartialFile } from "../../src/files/native/cache/partial_file.ts";
import { contentOf, sha256Of } from "../files/cache/content.ts";
import { tempFolder } from "../support/models.ts";
import { runCliWith } from "./support.ts";

const REPO: HubRepo = { kind: "models", id: "acme/tiny" };
const COMMIT = "1".repeat(40);
const BYTES = contentOf(0, 5000);
const SHA256 = sha256Of(BYTES);

/** Makes a cache with one revision of one file. */
async function makeCache(folder: string): Promise<void> {
  const cache = new HubCache(folder);
  await cache.describe(REPO, "main", COMMIT, null);
  const file = {
    repo: REPO,
    commit: COMMIT,
    path: "m.safetensors",
    size: 5000,
    blob: SHA256,
    sha256: SHA256,
  };
  const partial = await PartialFile.open((await cache.place(file, "x"))!, {
    fills: true,
    lanes: null,
    note() {},
  });
  await partial!.write(0, BYTES);
  await partial!.finish();
}

function run(folder: string, ...args: string[]) {
  return runCliWith(
    { NO_COLOR: "1", HF_HUB_CACHE: folder, XDG_CACHE_HOME: `${folder}-xdg` },
    "cache",
    ...args,
  );
}

Deno.test("cache list shows revisions, and path the folder", async () => {
  await using folder = await tempFolder();
  await makeCache(folder.path);
  const { code, stdout } = await run(folder.path);
  assertEquals(code, 0);
  const [head, row, total] = stdout.split("\n");
  assertEquals(head!.split(/\s{2,}/), ["name", "refs", "files", "size", "last used"]);
  assertEquals(row!.split(/\s{2,}/).slice(0, 4), ["acme/tiny@11111111", "main", "1", "5.00 kB"]);
  assertEquals(total, `1 entry, 5.00 kB in ${folder.path}`);
  const { stdout: json } = await run(folder.path, "list", "--json");
  const { entries, bytes } = JSON.parse(json);
  assertEquals([entries[0].name, entries[0].files, bytes], [
    `acme/tiny@${COMMIT}`,
    [{ name: "m.safetensors", size: 5000 }],
    5000,
  ]);
  assertEquals((await run("/none", "path", "--cache", folder.path)).stdout, `${folder.path}\n`);
});

Deno.test("cache verify compares files with their names, and fails with status 1", async () => {
  await using folder = await tempFolder();
  await makeCache(folder.path);
  const blob = `${folder.path}/models--acme--tiny/blobs/${SHA256}`;
  const gitBlob = `${folder.path}/models--acme--tiny/blobs/ce013625030ba8dba906f756967f9e9ca394464a`; // "hello\n"
  await Deno.writeTextFile(gitBlob, "hello\n");
  const right = await run(folder.path, "verify");
  assertEquals([right.code, right.stdout], [0, "2 of 2 files with a checksum agree\n"]);
  await Deno.writeFile(blob, BYTES.with(7, 0xff));
  const wrong = await run(folder.path, "verify");
  assertEquals(wrong.code, 1);
  assertStringIncludes(wrong.stdout, "1 of 2 files with a checksum agree\n");
  assertStringIncludes(wrong.stderr, `1 of 2 files do not agree, the first is "${blob}"`);
});

Deno.test("cache prune removes entries until the rest fits into --max", async () => {
  await using folder = await tempFolder();
  await makeCache(folder.path);
  const fits = await run(folder.path, "prune", "--max", "5kB");
  assertEquals([fits.code, fits.stdout], [0, "0 bytes freed, 5.00 kB left\n"]);
  const { code, stdout } = await run(folder.path, "prune", "--max", "0");
  assertEquals([code, stdout], [0, "Removed acme/tiny@11111111\n5.00 kB freed, 0 bytes left\n"]);
  assertEquals(await Array.fromAsync(Deno.readDir(folder.path), ({ name }) => name), ["CACHEDIR.TAG"]);
  assertEquals((await run(folder.path)).stdout, `0 entries, 0 bytes in ${folder.path}\n`);
});

Deno.test("cache refuses other actions and options with status 2", async () => {
  for (
    const [args, message] of [
      [["lst"], 'There is no action "lst": did you mean "list"?'],
      [["prune"], "prune needs --max, such as --max 200GB"],
      [["list", "--max", "5GB"], "--max is for prune"],
      [["list", "verify"], 'Only one action can be given, got "verify" too'],
      [["prune", "--max", "much"], "--max must be a number of bytes"],
    ] as const
  ) {
    const { code, stderr } = await run("/none", ...args);
    assertEquals(code, 2);
    assertStringIncludes(stderr, message);
  }
});
