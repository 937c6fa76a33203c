import { assert, assertEquals } from "@std/assert";
import type { HubRepo, Tree } from "../../../src/files/cache/hub_layout.ts";
import { HubCache, type HubFile } from "../../../src/files/native/cache/hub_cache.ts";
import { PartialFile } from "../../../src/files/native/cache/partial_file.ts";
import { findHubPython, hubPython } from "../../support/hub_python.ts";
import { tempFolder } from "../../support/models.ts";
import { suite } from "../../support/skip.ts";
import { contentOf, sha256Of } from "./content.ts";

const REPO: HubRepo = { kind: "models", id: "acme/tiny" };
const COMMIT = "a".repeat(40), OTHER = "b".repeat(40);
const SIZE = 5000;
const BYTES = contentOf(0, SIZE);
const SHA256 = sha256Of(BYTES);
const OID = "c".repeat(40);

const TREE: Tree = new Map([
  ["model.safetensors", { size: SIZE, oid: OID, sha256: SHA256 }],
  ["unet/model.safetensors", { size: SIZE, oid: OID, sha256: SHA256 }],
]);

function fileOf(path: string, commit = COMMIT): HubFile {
  return { repo: REPO, commit, path, size: SIZE, blob: SHA256, sha256: SHA256 };
}

/** Adds a file as a load does. */
async function add(cache: HubCache, file: HubFile, bytes = BYTES): Promise<void> {
  const whole = (await cache.place(file, `hf://acme/tiny/${file.path}`))!;
  const notes: string[] = [];
  const partial =
    (await PartialFile.open(whole, { fills: true, lanes: null, note: (note) => notes.push(note) }))!;
  await partial.write(0, bytes);
  await partial.finish();
  assertEquals(notes, []);
}

Deno.test("HubCache finds a file by commit, branch and path, and nothing that is not whole", async () => {
  await using folder = await tempFolder();
  const cache = new HubCache(folder.path);
  assertEquals(await cache.commitOf(REPO, "main"), null);
  await cache.describe(REPO, "main", COMMIT, TREE);
  await cache.describe(REPO, "refs/pr/1", OTHER, null);
  assertEquals(await cache.commitOf(REPO, "main"), COMMIT);
  assertEquals(await cache.commitOf(REPO, "refs/pr/1"), OTHER);
  assertEquals(await cache.commitOf(REPO, OTHER), OTHER);
  assertEquals(await cache.commitOf(REPO, "../refs/main"), null);
  assertEquals(await cache.treeOf(REPO, COMMIT), TREE);
  assertEquals(await cache.treeOf(REPO, OTHER), null);
  assertEquals(await cache.find(REPO, COMMIT, "model.safetensors"), null);
  assertEquals(await cache.cachedTreeOf(REPO, COMMIT), null);
  await add(cache, fileOf("model.safetensors"));
  const path = `${folder.path}/models--acme--tiny/snapshots/${COMMIT}/model.safetensors`;
  assertEquals(await cache.find(REPO, COMMIT, "model.safetensors", SIZE), path);
  assertEquals(await cache.find(REPO, COMMIT, "model.safetensors", SIZE + 1), null);
  assertEquals(await cache.find(REPO, COMMIT, "../../refs/main"), null);
  assertEquals(await Deno.readLink(path), `../../blobs/${SHA256}`);
  assertEquals(await Deno.readFile(path), BYTES);
  assertEquals(await Deno.readTextFile(`${folder.path}/models--acme--tiny/refs/main`), COMMIT);
});

Deno.test("HubCache links a blob that another path or commit has, without a download", async () => {
  await using folder = await tempFolder();
  const cache = new HubCache(folder.path);
  await cache.describe(REPO, "main", COMMIT, TREE);
  await add(cache, fileOf("model.safetensors"));
  for (const [path, commit] of [["unet/model.safetensors", COMMIT], ["model.safetensors", OTHER]] as const) {
    assertEquals(await cache.find(REPO, commit, path), null);
    await cache.place(fileOf(path, commit), "x");
    const found = await cache.find(REPO, commit, path);
    assertEquals(await Deno.readFile(found!), BYTES);
    assert((await Deno.lstat(found!)).isSymlink);
  }
  const file = { size: SIZE, oid: SHA256, sha256: SHA256 };
  assertEquals(
    await cache.cachedTreeOf(REPO, COMMIT),
    new Map([["model.safetensors", file], ["unet/model.safetensors", file]]),
  );
});

Deno.test("HubCache replaces a broken link", async () => {
  await using folder = await tempFolder();
  const cache = new HubCache(folder.path);
  await cache.describe(REPO, "main", COMMIT, TREE);
  const path = `${folder.path}/models--acme--tiny/snapshots/${COMMIT}/model.safetensors`;
  await Deno.symlink("../../blobs/gone", path);
  assertEquals(await cache.find(REPO, COMMIT, "model.safetensors"), null);
  await add(cache, fileOf("model.safetensors"));
  assertEquals(await Deno.readLink(path), `../../blobs/${SHA256}`);
});

Deno.test("HubCache puts the file itself into a snapshot where links are not wanted", async () => {
  await using folder = await tempFolder();
  const cache = new HubCache(folder.path, { links: false });
  await cache.describe(REPO, "main", COMMIT, TREE);
  await add(cache, fileOf("model.safetensors"));
  const found = await cache.find(REPO, COMMIT, "model.safetensors");
  assert((await Deno.lstat(found!)).isFile);
  assertEquals(await Array.fromAsync(Deno.readDir(`${folder.path}/models--acme--tiny/blobs`)), []);
});

Deno.test("HubCache refuses names that leave its folders", async () => {
  await using folder = await tempFolder();
  const cache = new HubCache(folder.path);
  assertEquals(await cache.place(fileOf("../x"), "x"), null);
  assertEquals(await cache.place({ ...fileOf("x"), blob: "../../x" }, "x"), null);
  assertEquals(await cache.place(fileOf("x", "main"), "x"), null);
  assertEquals(await Array.fromAsync(Deno.readDir(folder.path)), []);
});

const { missing } = await findHubPython();

suite("the cache and Python's huggingface_hub", "hub-python", missing, () => {
  Deno.test("huggingface_hub finds what HubCache wrote, and complains about nothing", async () => {
    await using folder = await tempFolder();
    const cache = new HubCache(folder.path);
    await cache.describe(REPO, "main", COMMIT, TREE);
    const file = fileOf("unet/model.safetensors");
    const whole = (await cache.place(file, "x"))!;
    const partial = (await PartialFile.open(whole, { fills: true, lanes: null, note: () => {} }))!;
    await partial.write(0, BYTES.slice(0, 100));
    const script = `
info = hub.scan_cache_dir()
def attempt(call):
  try:
    return call()
  except Exception as error:
    return type(error).__name__
print(json.dumps({
  "warnings": [str(warning) for warning in info.warnings],
  "incomplete": len(info.incomplete_files),
  "repos": [[repo.repo_id, repo.repo_type, repo.nb_files, repo.size_on_disk] for repo in info.repos],
  "refs": [[revision.commit_hash, sorted(revision.refs)] for repo in info.repos for revision in repo.revisions],
  "main": attempt(lambda: hub.hf_hub_download("acme/tiny", "unet/model.safetensors")),
  "commit": attempt(lambda: hub.hf_hub_download("acme/tiny", "unet/model.safetensors", revision="${COMMIT}")),
  "snapshot": attempt(lambda: hub.snapshot_download("acme/tiny")),
}))`;
    const env = { HF_HUB_CACHE: folder.path, HF_HUB_OFFLINE: "1" };
    assertEquals(await hubPython(script, env), {
      warnings: [],
      incomplete: 0,
      repos: [["acme/tiny", "model", 0, 0]],
      refs: [[COMMIT, ["main"]]],
      main: "LocalEntryNotFoundError",
      commit: "LocalEntryNotFoundError",
      snapshot: "IncompleteSnapshotError",
    });
    await partial.write(0, BYTES);
    await partial.finish();
    await cache.place(fileOf("model.safetensors"), "x");
    const snapshot = `${folder.path}/models--acme--tiny/snapshots/${COMMIT}`;
    assertEquals(await hubPython(script, env), {
      warnings: [],
      incomplete: 0,
      repos: [["acme/tiny", "model", 1, SIZE]],
      refs: [[COMMIT, ["main"]]],
      main: `${snapshot}/unet/model.safetensors`,
      commit: `${snapshot}/unet/model.safetensors`,
      snapshot,
    });
  });

  for (const links of [true, false]) {
    Deno.test(`HubCache finds what huggingface_hub fetched ${links ? "with" : "without"} links`, async () => {
      await using folder = await tempFolder();
      const headers = { "x-repo-commit": COMMIT, etag: `"${SHA256}"`, "content-length": `${SIZE}` };
      await using server = Deno.serve(
        { port: 0, hostname: "127.0.0.1", onListen() {} },
        ({ method, url }) => {
          const found = url.endsWith("/acme/tiny/resolve/main/unet/model.safetensors");
          if (!found) {
            return new Response(null, {
              status: 404,
              headers: { "x-error-code": "EntryNotFound", ...headers },
            });
          }
          return new Response(method === "HEAD" ? null : BYTES, { headers });
        },
      );
      const env = {
        HF_HUB_CACHE: folder.path,
        HF_ENDPOINT: `http://127.0.0.1:${server.addr.port}`,
        ...!links && { HF_HUB_DISABLE_SYMLINKS: "1" },
      };
      const fetched = await hubPython(
        `print(json.dumps(hub.hf_hub_download("acme/tiny", "unet/model.safetensors")))`,
        env,
      );
      const cache = new HubCache(folder.path);
      assertEquals(await cache.commitOf(REPO, "main"), COMMIT);
      assertEquals(await cache.find(REPO, COMMIT, "unet/model.safetensors", SIZE), fetched);
      const tree = await cache.cachedTreeOf(REPO, COMMIT);
      assertEquals(Array.from(tree!, ([path, { size }]) => [path, size]), [["unet/model.safetensors", SIZE]]);
      assertEquals((await Deno.lstat(fetched as string)).isSymlink, links);
    });
  }
});
