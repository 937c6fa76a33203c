/**
 * The libraries of a release, built for both processors; that of the other processor runs under qemu-user.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { buildShim, recipeHash } from "../../ffi/build.ts";
import { type Platform, PLATFORMS } from "../../ffi/prebuilt.ts";
import { ABI_VERSION } from "../../ffi/symbols.ts";
import { EXPORTED_NAMES } from "../support/exported_names.ts";
import { checkLibrary } from "../../native/tools/elf.ts";
import { buildRelease } from "../../native/tools/release.ts";
import { crossTools } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

const NATIVE = new URL("../native/", import.meta.url).pathname;
const { arch, compiler, runner, missing } = crossTools();

/** Returns the output of a command; throws with its stderr on failure. */
async function output(command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const decoder = new TextDecoder();
  assert(success, `${command} failed: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

suite("A release", "cross", missing, () => {
  Deno.test("buildRelease() makes libraries that open and read on both processors", async (t) => {
    await using folder = await tempFolder();
    const manifest = await buildRelease(folder.path);
    assertEquals(JSON.parse(await Deno.readTextFile(`${folder.path}/manifest.json`)), manifest);
    await Deno.writeTextFile(`${folder.path}/file`, "forty-two");
    for (const platform of PLATFORMS) {
      await t.step(platform, async () => {
        const path = `${folder.path}/libfastsafetensors-${platform}.so`;
        const bytes = await Deno.readFile(path);
        const sha256 = createHash("sha256").update(bytes).digest("hex");
        const recipe = await recipeHash([], platform.slice("linux-".length));
        assertEquals(manifest[platform], { size: bytes.byteLength, sha256, recipe });
        const text = await Deno.readTextFile(`${folder.path}/${platform}.txt`);
        assertEquals(new Uint8Array(gunzipSync(Uint8Array.fromBase64(text))), bytes);
        await checkLibrary(path, platform);

        const foreign = platform === `linux-${arch}`;
        const cc = foreign ? compiler : `${Deno.build.arch}-linux-gnu-gcc`;
        const program = `${folder.path}/open-${platform}`;
        const include = new URL("../../native", import.meta.url).pathname;
        await output(
          cc,
          "-std=gnu11",
          "-Werror",
          `-I${include}`,
          "-o",
          program,
          `${NATIVE}open_library.c`,
          "-ldl",
        );
        const names = EXPORTED_NAMES;
        const [command, ...args] = [...foreign ? runner : [], program, path, `${folder.path}/file`, ...names];
        assertEquals(await output(command!, ...args), `${ABI_VERSION} forty-two`);
      });
    }
  });

  Deno.test("checkLibrary() refuses a library that only runs on this machine", async () => {
    const platform = `linux-${Deno.build.arch}` as Platform;
    const other = `linux-${arch}` as Platform;
    const path = await buildShim();
    const error = await assertRejects(() => checkLibrary(path, other), Error);
    assertStringIncludes(error.message, `Cannot release "${path}" for ${other}: it is for "`);
    const needs = await output("objdump", "-T", path);
    const newer = [...needs.matchAll(/GLIBC_2\.(\d+)/g)].filter(([, minor]) => Number(minor) > 17);
    if (newer.length === 0) return await checkLibrary(path, platform); // the glibc of this machine is that old
    const refused = await assertRejects(() => checkLibrary(path, platform), Error);
    assertStringIncludes(refused.message, `it needs version ${newer[0]![0]}`);
  });
});
