/**
 * Loads and fetches of models of the Hub through the cache.
 */
import { assert, assertEquals } from "@std/assert";
import { fastsafeOpen, type OpenOptions } from "@x/fastsafetensors";
import { openLibrary } from "../../../ffi/library.ts";
import { runCliWith, startCliWith } from "../../cli/support.ts";
import { runChild } from "../../support/child.ts";
import { findHubPython, hubPython } from "../../support/hub_python.ts";
import { smallFileSystem, whyNoMounts } from "../../support/mounts.ts";
import { suite } from "../../support/skip.ts";
import { assertTensor } from "../../support/models.ts";
import { sha256Of } from "./content.ts";
import { COMMIT, HubScene, ID } from "./hub_model.ts";

await openLibrary(); // before the first test, which would report it as a leak

const NAME = `hf://${ID}`;

/** Loads the model in this process, compares its tensors, and returns its statistics. */
async function load(scene: HubScene, options: OpenOptions<"cpu"> = {}) {
  const network = { hub: { endpoint: scene.server.url("") } };
  const model = await fastsafeOpen(NAME, { network, cache: scene.folder.path, ...options });
  for (const written of scene.tensors) {
    if (model.has(written.name)) assertTensor(await model.getTensor(written.name), written);
  }
  await model.whenLoaded();
  await model.close();
  return model.stats();
}

const bytesOf = (requests: readonly { first: number; last: number }[]) =>
  requests.reduce((sum, { first, last }) => sum + last - first + 1, 0);

Deno.test("a load fills the cache, and the next one reads from it", async () => {
  await using scene = await HubScene.make();
  const first = await load(scene);
  assertEquals(first.path, "http");
  assertEquals(await Array.fromAsync(Deno.readDir(`${scene.repo}/.fastsafetensors`)), []);
  for (const { name, bytes } of scene.shards) {
    assertEquals(await Deno.readFile(`${scene.repo}/snapshots/${COMMIT}/${name}`), bytes);
  }
  scene.takeRequests();
  const second = await load(scene);
  assertEquals([second.path, scene.takeRequests(), second.bytes], ["cache", [], first.bytes]);
  scene.server.files[`/api/models/${ID}/revision/main`] = new Uint8Array(); // it is not asked
  const network = { hub: { endpoint: scene.server.url(""), offline: true } };
  assertEquals((await load(scene, { network })).path, "cache");
});

Deno.test("loads of some tensors complete the cache together, and nothing is fetched twice", async () => {
  await using scene = await HubScene.make(256);
  const first = await load(scene, { names: ["a1", "c1"] });
  assertEquals(first.path, "http");
  const before = scene.takeRequests();
  await load(scene);
  const after = scene.takeRequests();
  const [shard] = scene.shards;
  const all = [...before, ...after].filter(({ shard: name }) => name === shard!.name && true);
  assertEquals(bytesOf(all.filter(({ first, last }) => last > first)), shard!.bytes.length);
  assertEquals(await Deno.readFile(`${scene.repo}/snapshots/${COMMIT}/${shard!.name}`), shard!.bytes);
});

Deno.test("cache: false neither reads nor fills the cache, and fill: false does not fill it", async () => {
  await using scene = await HubScene.make();
  for (const cache of [false, { folder: scene.folder.path, fill: false }]) {
    assertEquals((await load(scene, { cache })).path, "http");
    assertEquals(await Array.fromAsync(Deno.readDir(scene.folder.path)), []);
  }
  await load(scene);
  scene.takeRequests();
  assertEquals((await load(scene, { cache: { folder: scene.folder.path, fill: false } })).path, "cache");
  assertEquals(scene.takeRequests(), []);
  assertEquals((await load(scene, { cache: false })).path, "http");
});

Deno.test("a file with the wrong SHA-256 is a note of a load and an error of fetch", async () => {
  await using scene = await HubScene.make();
  const [shard] = scene.shards;
  const path = `/${ID}/resolve/${COMMIT}/${shard!.name}`;
  const right = scene.server.files[path]!;
  scene.server.files[path] = right.with(right.length - 1, right.at(-1)! ^ 1);
  const network = { hub: { endpoint: scene.server.url("") } };
  const model = await fastsafeOpen(NAME, { network, cache: scene.folder.path });
  await model.whenLoaded();
  await model.close();
  const { notes } = model.stats();
  assertEquals(
    notes.filter((note) => note.startsWith(`Cannot keep "${NAME}@${COMMIT}/${shard!.name}"`)).length,
    1,
  );
  const { code, stderr } = await runCliWith(scene.env, "fetch", NAME);
  assertEquals(code, 1);
  assert(stderr.includes("Cannot keep") && stderr.includes("fetch it again"), stderr);
  scene.server.files[path] = right;
  assertEquals((await runCliWith(scene.env, "fetch", NAME)).code, 0);
  assertEquals(await Deno.readFile(`${scene.repo}/snapshots/${COMMIT}/${shard!.name}`), shard!.bytes);
});

Deno.test("fetch fetches a model once, or some tensors of it", async () => {
  await using scene = await HubScene.make();
  const bytes = scene.shards.reduce((sum, shard) => sum + shard.bytes.length, 0);
  const some = await runCliWith(scene.env, "fetch", NAME, "--names", "?2", "--json");
  const report = JSON.parse(some.stdout);
  assertEquals([report.files, report.bytes], [2, 4 * 64 * 4096]);
  scene.takeRequests();
  const all = JSON.parse((await runCliWith(scene.env, "fetch", NAME, "--json")).stdout);
  assertEquals([all.files, all.bytes, all.notes], [2, bytes, []]);
  assert(all.fetched < bytes - 3 * 64 * 4096, `${all.fetched}`);
  scene.takeRequests();
  const again = await runCliWith(scene.env, "fetch", NAME);
  assertEquals([again.code, again.stdout.includes("all of it was in the cache")], [0, true]);
  assertEquals(scene.takeRequests(), []);
  const offline = await runCliWith({ ...scene.env, HF_HUB_OFFLINE: "1" }, "load", NAME, "--json");
  assertEquals(JSON.parse(offline.stdout).path, "cache");
});

Deno.test("fetch refuses local files and wrong usage", async () => {
  const local = await runCliWith({}, "fetch", "model.safetensors");
  assertEquals(
    [local.code, local.stderr.includes('Cannot fetch "model.safetensors": it is not on a server')],
    [2, true],
  );
  assertEquals((await runCliWith({}, "fetch")).code, 2);
});

Deno.test("inspect and verify read the cache, and never fill it", async () => {
  await using scene = await HubScene.make();
  for (const command of ["inspect", "verify"]) {
    const { code, stderr } = await runCliWith(scene.env, command, NAME);
    assertEquals([code, stderr], [0, ""]);
    assertEquals(await Array.fromAsync(Deno.readDir(scene.folder.path)), [], command);
  }
  await load(scene);
  for (const command of ["inspect", "verify"]) {
    scene.takeRequests();
    assertEquals((await runCliWith(scene.env, command, NAME)).code, 0);
    assertEquals(scene.takeRequests(), [], command);
  }
});

Deno.test("load --cache names the cache, and shows the way of the bytes", async () => {
  await using scene = await HubScene.make();
  const { HF_HUB_CACHE: folder, ...env } = scene.env;
  const args = ["load", NAME, "--cache", folder!];
  assert((await runCliWith(env, ...args)).stdout.includes("; http, over the network;"));
  assert((await runCliWith(env, ...args)).stdout.includes("; cache, from the cache of files on servers;"));
  assert((await runCliWith(scene.env, "load", NAME, "--cache", "false")).stdout.includes("; http, "));
});

Deno.test("two processes that fetch a model at the same time leave one right cache", async () => {
  await using scene = await HubScene.make();
  const both = Promise.withResolvers<void>();
  let openings = 0;
  scene.server.fault = ({ target, range }, usual) => {
    if (range?.first === 0 && target.endsWith(scene.shards[0]!.name) && ++openings === 2) both.resolve();
    return { ...usual, hold: target.endsWith(".safetensors") ? both.promise : Promise.resolve() };
  };
  const results = await Promise.all([1, 2].map(() => runCliWith(scene.env, "fetch", NAME)));
  assertEquals(results.map(({ code, stderr }) => [code, stderr]), [[0, ""], [0, ""]]);
  for (const { name, bytes } of scene.shards) {
    assertEquals(await Deno.readFile(`${scene.repo}/snapshots/${COMMIT}/${name}`), bytes);
  }
  const left = await Array.fromAsync(Deno.readDir(`${scene.repo}/.fastsafetensors`), ({ name }) => name);
  assertEquals(left.filter((name) => !name.endsWith(".used")), []);
});

Deno.test("an interrupted fetch ends by the signal, keeps its bytes, and goes on", async () => {
  await using scene = await HubScene.make();
  const [first, second] = scene.shards;
  const held = Promise.withResolvers<void>();
  scene.server.fault = ({ target, range }, usual) => {
    if (!target.endsWith(second!.name) || range?.first === 0) return null;
    held.resolve();
    return { ...usual, hold: scene.server.closed };
  };
  const child = startCliWith(scene.env, "fetch", NAME);
  await held.promise;
  const whole = `${scene.repo}/snapshots/${COMMIT}/${first!.name}`;
  while (!await Deno.stat(whole).then(() => true, () => false)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  child.kill("SIGINT");
  const { signal, stderr } = await child.output();
  assertEquals(signal, "SIGINT");
  assert(new TextDecoder().decode(stderr).includes("its bytes stay in the cache"));
  scene.server.fault = () => null;
  scene.takeRequests();
  assertEquals((await runCliWith(scene.env, "fetch", NAME)).code, 0);
  const again = scene.takeRequests().filter(({ first, last }) => last > first);
  assertEquals(again.filter(({ shard }) => shard === first!.name), []);
  assertEquals(bytesOf(again), second!.bytes.length - 256 * 1024); // its head came before
  assertEquals(await Deno.readFile(`${scene.repo}/snapshots/${COMMIT}/${second!.name}`), second!.bytes);
});

Deno.test("without permissions the cache is not filled, or not used, with a note", async () => {
  await using scene = await HubScene.make();
  const { path } = scene.folder;
  const run = async (...flags: string[]) => {
    const net = `--allow-net=${scene.server.host}`;
    const { code, stdout, stderr } = await runChild("cached.ts", {
      flags: [net, ...flags],
      args: [NAME, scene.server.url(""), path],
      env: { HOME: path, DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno` },
    });
    assertEquals(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const both = `--allow-read=${path} and --allow-write=${path}`;
  const note = (what: string) => [`The cache in "${path}" was not ${what}: run again with ${both}`];
  assertEquals(await run(), { path: "http", notes: note("used") });
  assertEquals(await run(`--allow-read=${path}`), { path: "http", notes: note("filled") });
  assertEquals(await Array.fromAsync(Deno.readDir(scene.folder.path)), []);
  const flags = [`--allow-read=${path}`, `--allow-write=${path}`];
  assertEquals(await run(...flags), { path: "http", notes: [] });
  for (const { name, bytes } of scene.shards) { // links need more permissions
    const info = await Deno.lstat(`${scene.repo}/snapshots/${COMMIT}/${name}`);
    assertEquals([info.isFile, info.size, info.nlink], [true, bytes.length, 2]);
  }
  assertEquals(await run(...flags), { path: "cache", notes: [] });
});

suite("loads through a cache without space", "mounts", await whyNoMounts(), () => {
  Deno.test("a full disk ends the filling with a note, and the load has all tensors", async () => {
    await using place = await smallFileSystem();
    await using scene = await HubScene.make(1024); // a shard has 16 MiB, the disk 8
    const { notes, path } = await load(scene, { cache: `${place.path}/hub` });
    assertEquals(path, "http");
    assert(notes.some((note) => note.includes("was not filled further: no space left")), notes.join("\n"));
    const { code, stderr } = await runCliWith(
      { ...scene.env, HF_HUB_CACHE: `${place.path}/hub` },
      "fetch",
      NAME,
    );
    assertEquals(code, 1);
    assert(stderr.includes("no space left"), stderr);
  });
});

const { missing } = await findHubPython();

suite("models in the cache and Python's huggingface_hub", "hub-python", missing, () => {
  Deno.test("huggingface_hub finds a model that was loaded, and the package one that it fetched", async () => {
    await using scene = await HubScene.make();
    await load(scene);
    const [shard] = scene.shards;
    const script = `
info = hub.scan_cache_dir()
print(json.dumps([[str(warning) for warning in info.warnings], len(info.incomplete_files),
  hub.hf_hub_download("${ID}", "${shard!.name}"),
  hub.hf_hub_download("${ID}", "model.safetensors.index.json")]))`;
    const snapshot = `${scene.repo}/snapshots/${COMMIT}`;
    assertEquals(await hubPython(script, { HF_HUB_CACHE: scene.folder.path, HF_HUB_OFFLINE: "1" }), [
      [],
      0,
      `${snapshot}/${shard!.name}`,
      `${snapshot}/model.safetensors.index.json`,
    ]);
  });

  Deno.test("files that huggingface_hub fetched load without a request, also offline", async () => {
    await using scene = await HubScene.make();
    await using hub = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, ({ method, url }) => {
      const path = new URL(url).pathname;
      const bytes = scene.server.files[path];
      const headers = {
        "x-repo-commit": COMMIT,
        "content-length": `${bytes?.length}`,
        etag: `"${sha256Of(bytes!)}"`,
      };
      return new Response(method === "HEAD" ? null : bytes as Uint8Array<ArrayBuffer>, { headers });
    });
    const names = ["model.safetensors.index.json", ...scene.shards.map(({ name }) => name)];
    const script = `
for name in ${JSON.stringify(names)}:
  hub.hf_hub_download("${ID}", name)
print(1)`;
    await hubPython(script, { ...scene.env, HF_ENDPOINT: `http://127.0.0.1:${hub.addr.port}` });
    const network = { hub: { endpoint: scene.server.url(""), offline: true } };
    assertEquals((await load(scene, { network })).path, "cache");
    assertEquals((await load(scene)).path, "cache");
    assertEquals(scene.takeRequests(), []);
  });
});
