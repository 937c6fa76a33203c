import { assertEquals } from "@std/assert";
import type { HubRepo, Tree } from "../../../src/files/cache/hub_layout.ts";
import {
  type CacheEntry,
  hubEntries,
  totalBytes,
  urlEntries,
} from "../../../src/files/native/cache/content.ts";
import { HubCache } from "../../../src/files/native/cache/hub_cache.ts";
import { PartialFile } from "../../../src/files/native/cache/partial_file.ts";
import { prune } from "../../../src/files/native/cache/prune.ts";
import { UrlCache } from "../../../src/files/native/cache/url_cache.ts";
import { holdFile } from "../../../src/files/native/cache/usage.ts";
import { findHubPython, hubPython } from "../../support/hub_python.ts";
import { tempFolder } from "../../support/models.ts";
import { suite } from "../../support/skip.ts";
import { contentOf } from "./content.ts";

const REPO: HubRepo = { kind: "models", id: "acme/tiny" };
const SIZE = 4096;
const COMMITS = ["1", "2", "3"].map((digit) => digit.repeat(40));
const BLOBS = ["a", "b", "c"].map((digit) => digit.repeat(40));

/** Adds a revision with a file of its own and one that all revisions share, last used in January of a year. */
async function addRevision(cache: HubCache, index: number, year: number): Promise<void> {
  const commit = COMMITS[index]!;
  const tree: Tree = new Map([
    ["own.safetensors", { size: SIZE, oid: BLOBS[index]! }],
    ["shared.json", { size: SIZE, oid: "f".repeat(40) }],
  ]);
  await cache.describe(REPO, `v${index}`, commit, tree);
  for (const [path, { size, oid }] of tree) {
    const file = { repo: REPO, commit, path, size, blob: oid, sha256: null };
    const whole = (await cache.place(file, path))!;
    if (!await cache.find(REPO, commit, path)) {
      const partial = (await PartialFile.open(whole, { fills: true, lanes: null, note: () => {} }))!;
      await partial.write(0, contentOf(0, SIZE));
      await partial.finish();
    }
    await age(whole.destination, year);
  }
  await age(`${cache.folder}/models--acme--tiny/snapshots/${commit}`, year);
}

async function age(path: string, year: number): Promise<void> {
  await Deno.utime(path, new Date(year, 0), new Date(year, 0));
}

const labels = (entries: readonly CacheEntry[]) => entries.map(({ kind, name }) => `${kind} ${name}`);

async function filesBelow(folder: string): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) files.push(...(await filesBelow(`${folder}/${name}`)).map((file) => `${name}/${file}`));
    else files.push(name);
  }
  return files.sort();
}

async function threeRevisions(folder: string): Promise<HubCache> {
  const cache = new HubCache(folder);
  await addRevision(cache, 0, 2002);
  await addRevision(cache, 1, 2001);
  await addRevision(cache, 2, 2003);
  await age(`${folder}/models--acme--tiny/blobs/${"f".repeat(40)}`, 2000);
  return cache;
}

Deno.test("hubEntries() lists revisions, partial files and blobs without a revision", async () => {
  await using folder = await tempFolder();
  const cache = await threeRevisions(folder.path);
  const repo = `${folder.path}/models--acme--tiny`;
  await Deno.writeTextFile(`${repo}/blobs/${"e".repeat(40)}`, "left over");
  await Deno.writeTextFile(`${repo}/blobs/${"d".repeat(40)}.0123abcd.incomplete`, "of Python");
  await Deno.writeTextFile(`${folder.path}/version.txt`, "1");
  const file = {
    repo: REPO,
    commit: COMMITS[0]!,
    path: "x",
    size: 10 ** 9,
    blob: "9".repeat(40),
    sha256: null,
  };
  const whole = (await cache.place(file, "x"))!;
  const partial = (await PartialFile.open(whole, { fills: true, lanes: null, note: () => {} }))!;
  await partial.write(5 * 10 ** 8, contentOf(0, SIZE));
  await partial.abandon();
  const entries = await hubEntries(folder.path);
  assertEquals(labels(entries), [
    ...COMMITS.map((commit) => `revision acme/tiny@${commit}`),
    `blob acme/tiny ${"e".repeat(40)}`,
    `partial acme/tiny ${"9".repeat(40)}`,
  ]);
  const [first] = entries;
  assertEquals(first!.refs, ["v0"]);
  assertEquals(first!.files.map(({ name, size }) => [name, size]), [["own.safetensors", SIZE], [
    "shared.json",
    SIZE,
  ]]);
  assertEquals([first!.bytes, new Date(first!.lastUsed).getFullYear()], [2 * SIZE, 2002]);
  assertEquals(await totalBytes(entries.slice(0, 3)), 4 * SIZE); // the shared file counts once
  const last = entries.at(-1)!;
  assertEquals(last.bytes < 100_000, true, `${last.bytes}`); // holes do not count
  assertEquals(await hubEntries(`${folder.path}/none`), []);
});

Deno.test("prune() removes the least recently used revisions until the rest fits", async () => {
  await using folder = await tempFolder();
  await threeRevisions(folder.path);
  const { removed, inUse, freed, bytes } = await prune(await hubEntries(folder.path), folder.path, 3 * SIZE);
  assertEquals([labels(removed), inUse], [[`revision acme/tiny@${COMMITS[1]}`], []]);
  assertEquals([freed, bytes], [SIZE, 3 * SIZE]);
  assertEquals(await filesBelow(`${folder.path}/models--acme--tiny`), [
    `blobs/${BLOBS[0]}`,
    `blobs/${BLOBS[2]}`,
    `blobs/${"f".repeat(40)}`,
    "refs/v0",
    "refs/v2",
    ...[0, 2].flatMap((index) => [
      `snapshots/${COMMITS[index]}/own.safetensors`,
      `snapshots/${COMMITS[index]}/shared.json`,
    ]),
    `trees/${COMMITS[0]}.json`,
    `trees/${COMMITS[2]}.json`,
  ]);
});

Deno.test("prune() to 0 removes all that is the cache's own, and nothing else", async () => {
  await using folder = await tempFolder();
  await threeRevisions(folder.path);
  const repo = `${folder.path}/models--acme--tiny`;
  const mine = [
    "models--acme--tiny/notes.txt",
    `models--acme--tiny/snapshots/${COMMITS[0]}/mine.txt`,
    `models--acme--tiny/snapshots/${COMMITS[0]}/link.txt`,
    "models--acme--tiny/blobs/x y",
    "other/model.safetensors",
    "token",
  ];
  await Deno.mkdir(`${folder.path}/other`);
  for (const name of mine.filter((name) => !name.includes("link"))) {
    await Deno.writeTextFile(`${folder.path}/${name}`, "mine");
  }
  await Deno.symlink(`${folder.path}/token`, `${folder.path}/${mine[2]}`);
  await Deno.mkdir(`${repo}/.no_exist/${COMMITS[0]}/a`, { recursive: true });
  await Deno.writeTextFile(`${repo}/.no_exist/${COMMITS[0]}/a/b.json`, "");
  const { removed } = await prune(await hubEntries(folder.path), folder.path, 0);
  assertEquals(removed.length, 3);
  assertEquals(await filesBelow(folder.path), ["CACHEDIR.TAG", ...mine].sort());
});

Deno.test("prune() leaves entries alone that are in use", async () => {
  await using folder = await tempFolder();
  const cache = await threeRevisions(folder.path);
  const held = await holdFile((await cache.find(REPO, COMMITS[1]!, "own.safetensors"))!);
  const before = await prune(await hubEntries(folder.path), folder.path, 3 * SIZE);
  assertEquals([labels(before.removed), labels(before.inUse)], [
    [`revision acme/tiny@${COMMITS[0]}`],
    [`revision acme/tiny@${COMMITS[1]}`],
  ]);
  held[Symbol.dispose]();
  const after = await prune(await hubEntries(folder.path), folder.path, 0);
  assertEquals([after.removed.length, after.inUse], [2, []]);
});

Deno.test("prune() leaves a partial file alone while a process writes it, and the revisions of its repository", async () => {
  await using folder = await tempFolder();
  const cache = await threeRevisions(folder.path);
  const file = { repo: REPO, commit: COMMITS[0]!, path: "x", size: SIZE, blob: "9".repeat(40), sha256: null };
  const whole = (await cache.place(file, "x"))!;
  const partial = (await PartialFile.open(whole, { fills: true, lanes: null, note: () => {} }))!;
  await partial.write(0, contentOf(0, 100));
  const during = await prune(await hubEntries(folder.path), folder.path, 0);
  assertEquals([during.removed, during.inUse.length], [[], 4]);
  await partial.write(0, contentOf(0, SIZE));
  await partial.finish();
  assertEquals((await cache.find(REPO, COMMITS[0]!, "x"))?.endsWith("/x"), true);
  const after = await prune(await hubEntries(folder.path), folder.path, 0);
  assertEquals([after.removed.length, after.inUse], [3, []]);
  assertEquals(await filesBelow(folder.path), ["CACHEDIR.TAG"]);
});

Deno.test("a use that HubCache recorded counts, also where the system does not record it", async () => {
  await using folder = await tempFolder();
  const cache = await threeRevisions(folder.path);
  await cache.touch(REPO, COMMITS[1]!);
  const { removed } = await prune(await hubEntries(folder.path), folder.path, 2 * SIZE);
  assertEquals(labels(removed), [`revision acme/tiny@${COMMITS[0]}`, `revision acme/tiny@${COMMITS[2]}`]);
});

Deno.test("UrlCache keeps a version of a file, and lists it without secrets", async () => {
  await using folder = await tempFolder();
  const cache = new UrlCache(folder.path);
  const url = "https://user:secret@a.test/m.safetensors?X-Amz-Signature=secret&mysecret=secret";
  const version = { etag: '"1"', size: SIZE, sha256: null };
  const { file, cached } = await cache.place(url, version, "https://a.test/m.safetensors");
  assertEquals(cached, null);
  const partial = (await PartialFile.open(file, { fills: true, lanes: null, note: () => {} }))!;
  await partial.write(0, contentOf(0, SIZE));
  await partial.finish();
  const again = await cache.place(url.replace("Signature=secret", "Signature=other"), version, "x");
  assertEquals(again.cached, file.destination);
  assertEquals((await cache.place(url, { ...version, etag: '"2"' }, "x")).cached, null);
  const entries = await urlEntries(folder.path);
  assertEquals(labels(entries), ["url https://a.test/m.safetensors"]);
  for (const name of await filesBelow(folder.path)) {
    assertEquals((await Deno.readTextFile(`${folder.path}/${name}`)).includes("secret"), false);
  }
  await prune(entries, "", 0);
  assertEquals(await filesBelow(folder.path), []);
});

const { missing } = await findHubPython();

suite("a pruned cache and Python's huggingface_hub", "hub-python", missing, () => {
  Deno.test("huggingface_hub complains about nothing in a cache that was pruned", async () => {
    await using folder = await tempFolder();
    await threeRevisions(folder.path);
    await prune(await hubEntries(folder.path), folder.path, 3 * SIZE);
    const script = `
info = hub.scan_cache_dir()
print(json.dumps([[str(warning) for warning in info.warnings], info.size_on_disk,
  sorted(revision.commit_hash for repo in info.repos for revision in repo.revisions)]))`;
    const env = { HF_HUB_CACHE: folder.path };
    assertEquals(await hubPython(script, env), [[], 3 * SIZE, [COMMITS[0], COMMITS[2]]]);
  });
});
