import { assertEquals } from "@std/assert";
import {
  blobLink,
  formatTree,
  hubCacheFolder,
  isBlobName,
  isRepoPath,
  parseTree,
  repoFolder,
  repoOfFolder,
} from "../../../src/files/cache/hub_layout.ts";
import { urlKey, withoutSecrets } from "../../../src/files/cache/url_key.ts";

Deno.test("repoFolder() names the folders of the Hub's cache", () => {
  assertEquals(repoFolder({ kind: "models", id: "acme/tiny-1" }), "models--acme--tiny-1");
  assertEquals(repoFolder({ kind: "datasets", id: "acme/data" }), "datasets--acme--data");
  assertEquals(repoOfFolder("models--acme--tiny-1"), { kind: "models", id: "acme/tiny-1" });
  for (const other of [".locks", "CACHEDIR.TAG", "version.txt", "blobs", "models--", "kernels--a--b"]) {
    assertEquals(repoOfFolder(other), null, other);
  }
});

Deno.test("blobLink() is relative, from any depth of a snapshot", () => {
  assertEquals(blobLink("model.safetensors", "abc"), "../../blobs/abc");
  assertEquals(blobLink("unet/model.safetensors", "abc"), "../../../blobs/abc");
});

Deno.test("isRepoPath() and isBlobName() refuse names that leave their folder", () => {
  for (const path of ["a", "a/b.c", "refs/pr/1", ".gitattributes", "a..b"]) {
    assertEquals(isRepoPath(path), true);
  }
  for (const path of ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "..\\a", "a\0"]) {
    assertEquals(isRepoPath(path), false, path);
  }
  assertEquals(isBlobName("d7edf6bd2a681fb0175f7735299831ee1b22b812"), true);
  for (const name of ["", ".", "..", "a/b", "a b", '"a"', ".incomplete"]) {
    assertEquals(isBlobName(name), false);
  }
});

Deno.test("formatTree() and parseTree() use the format of huggingface_hub", () => {
  const text = `{
 "format_version": 1,
 "files": {
  "config.json": {
   "size": 519,
   "blob_id": "1111111111111111111111111111111111111111"
  },
  "model.safetensors": {
   "size": 1234,
   "blob_id": "2222222222222222222222222222222222222222",
   "lfs_sha256": "${"3".repeat(64)}",
   "lfs_size": 1234,
   "xet_hash": "${"4".repeat(64)}"
  }
 }
}`;
  const tree = new Map([
    ["model.safetensors", {
      size: 1234,
      oid: "2".repeat(40),
      sha256: "3".repeat(64),
      xetHash: "4".repeat(64),
    }],
    ["config.json", { size: 519, oid: "1".repeat(40) }],
  ]);
  assertEquals(formatTree(tree), text);
  assertEquals(parseTree(text), tree);
  const file = `"size":1,"blob_id":"${"1".repeat(40)}"`;
  for (
    const bad of [
      "",
      "[]",
      "{}",
      `{"format_version":2,"files":{}}`,
      `{"format_version":1,"files":{"../a":{${file}}}}`,
      `{"format_version":1,"files":{"a":{"size":-1,"blob_id":"a"}}}`,
      `{"format_version":1,"files":{"a":{"size":1,"blob_id":"../../x"}}}`,
      `{"format_version":1,"files":{"a":{${file},"lfs_sha256":"/etc"}}}`,
    ]
  ) assertEquals(parseTree(bad), null, bad);
});

Deno.test("hubCacheFolder() follows the environment as huggingface_hub does", () => {
  const cases: [variables: Record<string, string>, folder: string | undefined][] = [
    [{ HOME: "/home/a" }, "/home/a/.cache/huggingface/hub"],
    [{ HOME: "/home/a", XDG_CACHE_HOME: "/x" }, "/x/huggingface/hub"],
    [{ HOME: "/home/a", XDG_CACHE_HOME: "/x", HF_HOME: "/hf/" }, "/hf/hub"],
    [{ HOME: "/home/a", HF_HOME: "~/hf" }, "/home/a/hf/hub"],
    [{ HOME: "/home/a", HF_HOME: "$DISK/hf", DISK: "/d" }, "/d/hf/hub"],
    [{ HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old" }, "/old"],
    [{ HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "${DISK}/new", DISK: "/d" }, "/d/new"],
    [{ HF_HUB_CACHE: "/c/$UNSET" }, "/c/$UNSET"],
    [{}, undefined],
  ];
  for (const [variables, folder] of cases) {
    assertEquals(hubCacheFolder((name) => variables[name]), folder, JSON.stringify(variables));
  }
});

Deno.test("withoutSecrets() removes users, passwords and signatures from URLs", () => {
  const cases = [
    ["https://a.test/m.safetensors", "https://a.test/m.safetensors"],
    ["https://user:pass@a.test/m#x", "https://a.test/m"],
    ["https://a.test/m?X-Amz-Signature=1&X-Amz-Date=2&v=3", "https://a.test/m?v=3"],
    ["https://a.test/m?se=1&sp=r&sig=abc", "https://a.test/m"],
    ["https://a.test/m?Expires=1&Signature=2&Key-Pair-Id=3", "https://a.test/m"],
    ["https://a.test/get?file=a&token=secret", "https://a.test/get?file=a"],
  ];
  for (const [url, expected] of cases) assertEquals(withoutSecrets(url!), expected);
});

Deno.test("urlKey() differs for other URLs, versions and sizes", async () => {
  const version = { url: "https://a.test/m", etag: '"1"', size: 5 };
  const keys = await Promise.all([
    version,
    { ...version, url: "https://a.test/n" },
    { ...version, etag: '"2"' },
    { ...version, size: 6 },
  ].map(urlKey));
  assertEquals(new Set(keys).size, 4);
  for (const key of keys) assertEquals(/^[0-9a-f]{64}$/.test(key), true);
});
