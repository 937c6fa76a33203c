import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafeTensorsError } from "@x/fastsafetensors";
import { CachedFile } from "../../../src/files/cache/cached_file.ts";
import type { HubRepo } from "../../../src/files/cache/hub_layout.ts";
import { HttpClient } from "../../../src/files/http/client.ts";
import type { RemoteName } from "../../../src/files/http/host.ts";
import { HttpSource } from "../../../src/files/http/http_source.ts";
import { CachingSource } from "../../../src/files/native/cache/caching_source.ts";
import { PortableFile, PortableFileSource } from "../../../src/files/native/portable_file.ts";
import { FaultyServer } from "../../support/faulty_server.ts";
import { run, smallFileSystem, whyNoMounts } from "../../support/mounts.ts";
import { noise, type TempFolder, tempFolder } from "../../support/models.ts";
import { suite } from "../../support/skip.ts";
import { sha256Of } from "./content.ts";

const SIZE = 2 ** 20 + 77;
const BYTES = noise(SIZE, 3);
const SHA256 = sha256Of(BYTES);
const REPO: HubRepo = { kind: "models", id: "acme/tiny" };
const COMMIT = "1".repeat(40);
const NAME = "hf://acme/tiny/x.safetensors";

/** A server with one file, a cache, and the source of one program. */
class Scene implements AsyncDisposable {
  readonly server = new FaultyServer({ "/x": BYTES });
  readonly folder: TempFolder;

  private constructor(folder: TempFolder) {
    this.folder = folder;
  }

  /** @param path the folder of the cache's own folder; default is that of temporary files */
  static async make(path?: string): Promise<Scene> {
    return new Scene(await tempFolder(path));
  }

  get pointer(): string {
    return `${this.folder.path}/models--acme--tiny/snapshots/${COMMIT}/x.safetensors`;
  }

  /** The source of a new program. */
  source(options: {
    hub?: boolean;
    fills?: boolean;
    sha256?: string;
    commit?: string;
    signal?: AbortSignal;
    isStrict?: boolean;
  } = {}) {
    const { hub = true, fills = true, sha256 = SHA256, commit = COMMIT, signal, isStrict } = options;
    const place = { repo: REPO, commit, path: "x.safetensors", blob: sha256 };
    const url = this.server.url("/x");
    const locate = () => Promise.resolve({ url, headers: {} });
    const name: RemoteName = hub
      ? { path: NAME, size: SIZE, sha256, hub: place, locate }
      : { path: url, locate };
    const host = {
      fetch,
      checkAccess() {},
      pause: () => Promise.resolve(),
      retain() {},
      release() {},
    };
    const limits = { retries: 0, timeoutSeconds: 30 };
    const context = { client: new HttpClient(host), limits, signal: new AbortController().signal };
    return new CachingSource({
      remote: new HttpSource(context, () => name),
      local: new PortableFileSource(),
      nameOf: () => name,
      folders: { hub: this.folder.path, urls: `${this.folder.path}/urls` },
      urls: true,
      fills,
      lanes: null,
      signal,
      isStrict,
    });
  }

  /** Bytes that the server was asked for since the last call. */
  requested(): number {
    return this.server.requests.splice(0).reduce((sum, { range }) => {
      return sum + (range ? Math.min(range.last, SIZE - 1) + 1 - range.first : SIZE);
    }, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await this.folder[Symbol.asyncDispose]();
  }
}

type File = CachedFile | PortableFile | {
  read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void>;
};

async function readAndCompare(file: File, start: number, stop: number): Promise<void> {
  const target = new Uint8Array(stop - start);
  await file.read(start, target);
  assert(target.every((byte, index) => byte === BYTES[start + index]), `${start}-${stop}`);
}

const HEAD = 256 * 1024;

for (const hub of [true, false]) {
  Deno.test(`a file is fetched once, also by several loads of parts, and is local then [${hub ? "Hub" : "URL"}]`, async () => {
    await using scene = await Scene.make();
    const parts = [[500_000, 600_000], [HEAD, 550_000], [600_000, SIZE]] as const;
    for (const [index, [start, stop]] of parts.entries()) {
      const source = scene.source({ hub });
      const file = await source.open("x");
      assert(file instanceof CachedFile);
      await readAndCompare(file, start, stop);
      await readAndCompare(file, 0, HEAD);
      assertEquals([file.way(start, stop - start), file.way(600_000, SIZE - 600_000)], [
        "cache",
        index === 2 ? "cache" : "http",
      ]);
      await file.close();
      assertEquals([file.takeNotes(), source.notes], [[], []]);
      const fetched = [100_000, 500_000 - HEAD, SIZE - 600_000][index]!;
      const opening = hub && index > 0 ? 1 : HEAD; // the version of a URL is known only after its opening
      assertEquals(scene.requested(), opening + fetched);
    }
    const file = await scene.source({ hub }).open("x");
    assert(file instanceof PortableFile);
    assertEquals([file.path, file.size, file.way()], [hub ? NAME : scene.server.url("/x"), SIZE, "cache"]);
    await readAndCompare(file, 0, SIZE);
    await file.close();
    assertEquals(scene.requested(), hub ? 0 : HEAD); // a URL alone does not say whether the file has changed
    if (hub) assertEquals(await Deno.readFile(scene.pointer), BYTES);
  });
}

Deno.test("without filling the cache is read and stays as it is", async () => {
  await using scene = await Scene.make();
  const first = await scene.source({ fills: false }).open("x");
  await readAndCompare(first, 0, SIZE);
  await first.close();
  assertEquals(await Array.fromAsync(Deno.readDir(scene.folder.path)), []);
  const filling = await scene.source().open("x");
  await readAndCompare(filling, 0, 500_000);
  await filling.close();
  scene.requested();
  const reading = await scene.source({ fills: false }).open("x");
  await readAndCompare(reading, 0, SIZE);
  await reading.close();
  assertEquals(scene.requested(), 1 + SIZE - 500_000);
  await assertRejects(() => Deno.stat(scene.pointer), Deno.errors.NotFound);
});

Deno.test("a file with another SHA-256 is a note, or an error of close(), and fetched anew afterwards", async () => {
  await using scene = await Scene.make();
  const sha256 = "0".repeat(64);
  const noted = await scene.source({ sha256 }).open("x");
  await readAndCompare(noted, 0, SIZE);
  await noted.close();
  assertEquals((noted as CachedFile).takeNotes(), [
    `Cannot keep "${NAME}" in the cache: SHA-256 ${sha256} expected, ${SHA256} found: its bytes were removed from the ` +
    "cache, fetch it again",
  ]);
  const file = await scene.source({ sha256, isStrict: true }).open("x");
  await readAndCompare(file, 0, SIZE);
  const error = await assertRejects(async () => await file.close(), SafeTensorsError);
  assertEquals([error.code, error.path], ["ChecksumMismatch", NAME]);
  await assertRejects(() => Deno.stat(scene.pointer), Deno.errors.NotFound);
  scene.requested();
  const again = await scene.source().open("x");
  await readAndCompare(again, 0, SIZE);
  await again.close();
  assertEquals([scene.requested(), await Deno.readFile(scene.pointer)], [SIZE, BYTES]);
});

Deno.test("after an abort the bytes stay, and close() does not wait for a checksum", async () => {
  await using scene = await Scene.make();
  const abort = new AbortController();
  const file = await scene.source({ signal: abort.signal }).open("x");
  await readAndCompare(file, HEAD, SIZE);
  abort.abort();
  await file.close();
  scene.requested();
  const again = await scene.source().open("x");
  await readAndCompare(again, 0, SIZE);
  await again.close();
  assertEquals([scene.requested(), await Deno.readFile(scene.pointer)], [1, BYTES]);
});

Deno.test("a file without a strong ETag is read without the cache, with a note", async () => {
  await using scene = await Scene.make();
  scene.server.fault = (_, usual) => ({ ...usual, headers: { ...usual.headers, etag: 'W/"1"' } });
  const source = scene.source({ hub: false });
  const file = await source.open("x");
  assert(!(file instanceof CachedFile));
  await readAndCompare(file, 0, SIZE);
  await file.close();
  assertEquals(source.notes, [
    `"${scene.server.url("/x")}" is not kept in the cache: its server sends no strong ETag`,
  ]);
});

Deno.test("a cache that cannot be written is a note, not an error", async () => {
  await using scene = await Scene.make();
  await Deno.writeTextFile(`${scene.folder.path}/models--acme--tiny`, "not a folder");
  const source = scene.source();
  const file = await source.open("x");
  await readAndCompare(file, 0, SIZE);
  await file.close();
  assertEquals(source.notes.length, 1);
  assert(source.notes[0]!.startsWith(`The cache was not used for "${NAME}": `), source.notes[0]);
});

Deno.test("bytes that are lost in the cache meanwhile come from the server", async () => {
  await using scene = await Scene.make();
  const file = await scene.source().open("x");
  await readAndCompare(file, HEAD, 600_000);
  const folder = `${scene.folder.path}/models--acme--tiny/.fastsafetensors`;
  for await (const { name } of Deno.readDir(folder)) {
    if (name.endsWith(".part")) await Deno.truncate(`${folder}/${name}`, 300_000);
  }
  await readAndCompare(file, HEAD, 600_000);
  await file.close();
});

suite("a cache on a file system without space, or that is read-only", "mounts", await whyNoMounts(), () => {
  Deno.test("a full disk ends the filling with a note, not the load, and what is there stays", async () => {
    await using place = await smallFileSystem();
    await using scene = await Scene.make(place.path);
    const ballast = `${place.path}/ballast`;
    await Deno.writeFile(ballast, new Uint8Array(8 * 2 ** 20 - 600_000));
    const file = await scene.source().open("x");
    for (let at = 0; at < SIZE; at += 50_000) await readAndCompare(file, at, Math.min(SIZE, at + 50_000));
    await file.close();
    const notes = (file as CachedFile).takeNotes();
    assertEquals(notes.length, 1);
    assert(notes[0]!.startsWith(`The cache of "${NAME}" was not filled further: no space left`), notes[0]);
    await Deno.remove(ballast);
    scene.requested();
    const again = await scene.source().open("x");
    await readAndCompare(again, 0, SIZE);
    await again.close();
    const requested = scene.requested();
    assert(requested > 1 && requested <= SIZE - HEAD + 1, `${requested}`);
    assertEquals(await Deno.readFile(scene.pointer), BYTES);
  });

  Deno.test("a read-only cache is read, and not filled", async () => {
    await using place = await smallFileSystem();
    await using scene = await Scene.make(place.path);
    const filling = await scene.source().open("x");
    await readAndCompare(filling, 0, SIZE);
    await filling.close();
    assertEquals(await run("mount", "-o", "remount,ro", place.path), null);
    scene.requested();
    const found = await scene.source().open("x");
    assert(found instanceof PortableFile);
    await readAndCompare(found, 0, SIZE);
    await found.close();
    assertEquals(scene.requested(), 0);
    const other = scene.source({ sha256: "2".repeat(64), commit: "2".repeat(40) });
    const file = await other.open("x");
    await readAndCompare(file, 0, SIZE);
    await file.close();
    assertEquals(other.notes, [`The cache was not used for "${NAME}": read-only file system (EROFS)`]);
    assertEquals(await run("mount", "-o", "remount,rw", place.path), null);
  });
});
