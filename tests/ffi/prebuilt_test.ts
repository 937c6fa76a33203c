import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { recipeHash } from "../../ffi/build.ts";
import { sha256 } from "../../src/base/sha256.ts";
import { pack, type PrebuiltLibrary, unpackPrebuilt } from "../../ffi/prebuilt.ts";
import { setEnv } from "../support/environment.ts";
import { tempFolder } from "../support/models.ts";

const PLATFORM = `${Deno.build.os}-${Deno.build.arch}`;
/** Any bytes, because the unpacked library is not opened. */
const BYTES = Uint8Array.from({ length: 100_000 }, (_, index) => index % 251);

/** A package with these bytes as its library, and the number of requests for it. */
async function carrying(bytes: Uint8Array<ArrayBuffer>, changes: Partial<PrebuiltLibrary> = {}) {
  const library = {
    size: bytes.byteLength,
    sha256: await sha256(bytes),
    recipe: await recipeHash(),
    ...changes,
  };
  const text = await pack(bytes);
  const asked = { count: 0 };
  const get = () => {
    asked.count++;
    return Promise.resolve({ default: text });
  };
  const manifest = () => Promise.resolve({ default: JSON.stringify({ [PLATFORM]: library }) });
  return { asked, texts: { manifest, "linux-x86_64": get, "linux-aarch64": get } };
}

function absent(): Promise<never> {
  return Promise.reject(Object.assign(new TypeError("Module not found"), { code: "ERR_MODULE_NOT_FOUND" }));
}

/** A test with an empty cache folder. */
function test(name: string, body: (folder: string) => Promise<void>): void {
  Deno.test({
    name,
    ignore: Deno.build.os !== "linux",
    fn: async () => {
      await using folder = await tempFolder();
      using _ = setEnv({ XDG_CACHE_HOME: folder.path });
      await body(`${folder.path}/fastsafetensors`);
    },
  });
}

test("unpackPrebuilt() writes the library once, and again if it is damaged", async (folder) => {
  const { texts, asked } = await carrying(BYTES);
  const path = `${folder}/libfastsafetensors-${(await sha256(BYTES)).slice(0, 24)}-prebuilt.so`;
  assertEquals(await unpackPrebuilt(texts), path);
  assertEquals(await unpackPrebuilt(texts), path);
  assertEquals([await Deno.readFile(path), asked.count], [BYTES, 1]);
  await Deno.truncate(path, 10);
  assertEquals(await unpackPrebuilt(texts), path);
  assertEquals([await Deno.readFile(path), asked.count], [BYTES, 2]);
  assertEquals([...Deno.readDirSync(folder)].length, 1);
});

test("unpackPrebuilt() returns null without a library of these sources", async () => {
  const { texts } = await carrying(BYTES);
  assertEquals(await unpackPrebuilt({ ...texts, manifest: absent }), null);
  assertEquals(await unpackPrebuilt({ ...texts, "linux-x86_64": absent, "linux-aarch64": absent }), null);
  assertEquals(await unpackPrebuilt({ ...texts, manifest: () => Promise.resolve({ default: "{}" }) }), null);
  const other = await carrying(BYTES, { recipe: await recipeHash(["-DOTHER"]) });
  assertEquals(await unpackPrebuilt(other.texts), null);
  assertEquals(other.asked.count, 0);
});

test("unpackPrebuilt() rejects a damaged package, and throws errors of its imports", async (folder) => {
  const told = 'Cannot unpack the prebuilt library: the package is damaged, get it again with "--reload": ';
  const damaged = await carrying(BYTES, { sha256: "1".repeat(64), size: 7 });
  const error = await assertRejects(() => unpackPrebuilt(damaged.texts), Error);
  assertEquals(
    error.message,
    `${told}100000 bytes with SHA-256 ${await sha256(BYTES)}, not 7 with ${"1".repeat(64)}`,
  );
  const { texts } = await carrying(BYTES);
  for (const [name, text] of [["manifest", "{"], [PLATFORM, "no base64!"], [PLATFORM, "AAAA"]] as const) {
    const broken = { ...texts, [name]: () => Promise.resolve({ default: text }) };
    assertStringIncludes((await assertRejects(() => unpackPrebuilt(broken), Error)).message, told);
  }
  const gone = new Error("the network is gone");
  assertEquals(
    await assertRejects(() => unpackPrebuilt({ ...texts, manifest: () => Promise.reject(gone) })),
    gone,
  );
  await Deno.writeTextFile(folder, "a file where the folder should be");
  const { message } = await assertRejects(() => unpackPrebuilt(texts), Error);
  assertStringIncludes(message, "Cannot unpack the prebuilt library: ");
});
