/**
 * Libraries that a release of this package carries, so that it needs no compiler.
 *
 * `deno task build:release` makes them, as text (gzip in base64), for a module can import text from wherever the
 * package is and no bytes yet. They are made by the release workflow and are not in the repository: there each change
 * of a source would leave libraries behind that are not built from it. A checkout has none, or its own, and those only
 * count while they are built from the sources beside them.
 */
import { isGranted } from "./variables.ts";
import { cacheFolder, recipeHash, sha256 } from "./build.ts";
import { checkPermissions } from "./permissions.ts";

/** A library of a release. */
export interface PrebuiltLibrary {
  /** Bytes of the library. */
  readonly size: number;
  /** Their SHA-256, hexadecimal. */
  readonly sha256: string;
  /** {@linkcode recipeHash} of what it was built from. */
  readonly recipe: string;
}

/** `native/prebuilt/manifest.json`: platform (`linux-x86_64`) → library. */
export type PrebuiltManifest = Readonly<Record<string, PrebuiltLibrary>>;

/** The manifest and the libraries, each imported only when it is needed: a checkout has none of them. */
const IMPORTS = {
  manifest: () => import("../native/prebuilt/manifest.json", { with: { type: "text" } }),
  "linux-x86_64": () => import("../native/prebuilt/linux-x86_64.txt", { with: { type: "text" } }),
  "linux-aarch64": () => import("../native/prebuilt/linux-aarch64.txt", { with: { type: "text" } }),
};

/** The texts that a package carries. */
type PackageTexts = Readonly<Record<keyof typeof IMPORTS, () => Promise<{ readonly default: string }>>>;

/** The platforms for which a release has a library. */
export const PLATFORMS = ["linux-x86_64", "linux-aarch64"] as const;

/** A platform with a library. */
export type Platform = typeof PLATFORMS[number];

/**
 * Puts this platform's library in the user's cache folder, unless it is there undamaged, and returns its path.
 *
 * It appears under its name in one step, complete, so that processes do not disturb each other.
 *
 * @param texts what the package carries; others in tests
 * @returns null if this package carries none for this platform that is built from its sources
 * @throws {PermissionsMissing} if it may not be unpacked or opened
 * @throws {Error} if what it carries is damaged, or cannot be written
 */
export async function unpackPrebuilt(texts: PackageTexts = IMPORTS): Promise<string | null> {
  const platform = PLATFORMS.find((name) => name === `${Deno.build.os}-${Deno.build.arch}`);
  const manifest = await importText(texts.manifest);
  if (platform === undefined || manifest === null) return null;
  const library = readManifest(manifest)[platform];
  if (library?.recipe !== await recipeHash()) return null;
  const folder = cacheFolder();
  const path = `${folder}/libfastsafetensors-${library.sha256.slice(0, 24)}-prebuilt.so`;
  const isNew = !isGranted({ name: "read", path: folder }) || !await isUndamaged(path, library);
  checkPermissions({ path, folder, isNew, isBuilt: false });
  if (!isNew) return path;
  const packed = await importText(texts[platform]);
  if (packed === null) return null;
  const bytes = await unpack(packed, library);
  try {
    await writeInOneStep(folder, path, bytes);
  } catch (error) {
    throw unusable(error);
  }
  return path;
}

function readManifest(text: string): PrebuiltManifest {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged((error as Error).message, error);
  }
}

/** A text of the package; null if the package does not have it. */
async function importText(text: () => Promise<{ readonly default: string }>): Promise<string | null> {
  try {
    return (await text()).default;
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_MODULE_NOT_FOUND") return null;
    throw error;
  }
}

async function isUndamaged(path: string, library: PrebuiltLibrary): Promise<boolean> {
  try {
    return await sha256(await Deno.readFile(path)) === library.sha256;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw unusable(error);
  }
}

/** The error for a cache folder that cannot be used, and why. */
function unusable(cause: unknown): Error {
  const { message } = cause as Error;
  return new Error(
    `Cannot unpack the prebuilt library: ${message}: set "XDG_CACHE_HOME" to a folder for it`,
    { cause },
  );
}

/** A library as text. */
export async function pack(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(stream).bytes()).toBase64();
}

/** The library that a text holds, checked. */
async function unpack(text: string, library: PrebuiltLibrary): Promise<Uint8Array<ArrayBuffer>> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    const stream = new Blob([Uint8Array.fromBase64(text)]).stream();
    bytes = await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).bytes();
  } catch (error) {
    throw damaged((error as Error).message, error);
  }
  const found = await sha256(bytes);
  if (found !== library.sha256) {
    throw damaged(
      `${bytes.byteLength} bytes with SHA-256 ${found}, not ${library.size} with ${library.sha256}`,
    );
  }
  return bytes;
}

function damaged(what: string, cause?: unknown): Error {
  return new Error(
    `Cannot unpack the prebuilt library: the package is damaged, get it again with "--reload": ${what}`,
    { cause },
  );
}

async function writeInOneStep(folder: string, path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const work = await Deno.makeTempFile({ dir: folder, prefix: "unpack-" });
  try {
    await Deno.writeFile(work, bytes);
    await Deno.chmod(work, 0o644); // for others to read, and for nobody else to change, whatever the mask says
    await Deno.rename(work, path);
  } catch (error) {
    await Deno.remove(work);
    throw error;
  }
}
