/**
 * `deno task build:release [--out FOLDER]`: the libraries that a release carries, for every platform.
 *
 * They are cross-compiled with Debian's compilers (`gcc` and `libc6-dev`, `gcc-aarch64-linux-gnu` and
 * `libc6-dev-arm64-cross`), need no newer glibc than 2.17, and are stripped. FOLDER, by default `native/build/release`,
 * then has the manifest and each library twice: as text, which the package imports from `native/prebuilt`, and as a file
 * of its own to hand out.
 */
import { compileShim, recipeHash } from "../../ffi/build.ts";
import { sha256 } from "../../src/base/sha256.ts";
import {
  pack,
  type Platform,
  PLATFORMS,
  type PrebuiltLibrary,
  type PrebuiltManifest,
} from "../../ffi/prebuilt.ts";
import { checkLibrary, NEWEST_GLIBC } from "./elf.ts";

/** The parts of glibc that older ones have as files of their own, by name: this linker would leave them out. */
export const RELEASE_FLAGS: readonly string[] = [
  "-Werror",
  "-include",
  new URL("glibc_2_17.h", import.meta.url).pathname,
  "-Wl,-z,defs,--no-as-needed",
  "-l:libpthread.so.0",
  "-l:libdl.so.2",
];

/**
 * Builds the libraries and the manifest.
 *
 * @param platforms those to build for
 * @throws {Error} if a compiler is missing or fails, or a library would not run everywhere
 */
export async function buildRelease(
  folder: string,
  platforms: readonly Platform[] = PLATFORMS,
): Promise<PrebuiltManifest> {
  await Deno.mkdir(folder, { recursive: true });
  const built = await Promise.all(
    platforms.map(async (platform) => [platform, await buildLibrary(platform, folder)] as const),
  );
  const manifest = Object.fromEntries(built);
  await Deno.writeTextFile(`${folder}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

async function buildLibrary(platform: Platform, folder: string): Promise<PrebuiltLibrary> {
  const arch = platform.slice("linux-".length);
  const tools = `${arch}-linux-gnu`;
  const work = await Deno.makeTempDir();
  try {
    const library = await compileShim(work, { flags: RELEASE_FLAGS, compiler: `${tools}-gcc` });
    const { success } = await new Deno.Command(`${tools}-strip`, { args: [library], stderr: "inherit" })
      .output();
    if (!success) throw new Error(`Cannot strip the library for ${platform}`);
    await checkLibrary(library, platform);
    const bytes = await Deno.readFile(library);
    await Deno.writeFile(`${folder}/libfastsafetensors-${platform}.so`, bytes);
    await Deno.writeTextFile(`${folder}/${platform}.txt`, await pack(bytes));
    return { size: bytes.byteLength, sha256: await sha256(bytes), recipe: await recipeHash([], arch) };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

if (import.meta.main) {
  const [flag, out] = Deno.args;
  if (Deno.args.length > 0 && (flag !== "--out" || out === undefined)) {
    console.error("Usage: deno task build:release [--out FOLDER]");
    Deno.exit(2);
  }
  const folder = out ?? new URL("../build/release", import.meta.url).pathname;
  for (const [platform, { size, sha256 }] of Object.entries(await buildRelease(folder))) {
    console.log(`${platform}: ${size} bytes, SHA-256 ${sha256}, glibc ${NEWEST_GLIBC} or newer`);
  }
  console.log(`Written to ${folder}`);
}
